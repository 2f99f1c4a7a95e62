//! A server of an HAProxy backend: how it is read, and the commands that change it.

use std::net::IpAddr;

/// A server as `show servers state` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its name.
    pub name: String,
    /// Where it leads; none for a unix socket.
    pub place: Option<(IpAddr, u16)>,
    /// `srv_op_state` 0: it gets nothing, by a health check or by maintenance.
    pub is_stopped: bool,
    /// Bits of `srv_admin_state`.
    pub admin_state: u32,
    /// Bit 2 of `srv_check_state`: it has a health check.
    pub is_checked: bool,
}

impl Server {
    /// Neither in maintenance nor draining. Bit 4 is not about that: it means that the
    /// configuration began with `disabled`, and stays.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        const BEGAN_DISABLED: u32 = 0x04;
        self.admin_state & !BEGAN_DISABLED == 0
    }

    /// Leads to this place and is ready. One that a health check has stopped is up again at once:
    /// the new place was probed before the flip, and the check goes on from there.
    #[must_use]
    pub(crate) fn lead_to(&self, backend: &str, (ip, port): (IpAddr, u16)) -> Vec<String> {
        let name = &self.name;
        let mut commands = vec![
            format!("set server {backend}/{name} addr {ip} port {port}"),
            self.state(backend, "ready"),
        ];
        if self.is_stopped && self.is_checked {
            commands.push(format!("set server {backend}/{name} health up"));
        }
        commands
    }

    /// Into a state: `ready`, `drain` or `maint`.
    #[must_use]
    pub(crate) fn state(&self, backend: &str, state: &str) -> String {
        format!("set server {backend}/{} state {state}", self.name)
    }

    /// As it was when it was looked at.
    #[must_use]
    pub(crate) fn set_back(&self, backend: &str) -> Vec<String> {
        const MAINTENANCE: u32 = 0x01;
        const DRAINING: u32 = 0x08;
        let state = match self.admin_state {
            bits if bits & MAINTENANCE != 0 => "maint",
            bits if bits & DRAINING != 0 => "drain",
            _ => "ready",
        };
        let name = &self.name;
        let place = self
            .place
            .map(|(ip, port)| format!("set server {backend}/{name} addr {ip} port {port}"));
        place.into_iter().chain([self.state(backend, state)]).collect()
    }
}

/// The servers of a `show servers state` of version 1; none when it is no such answer.
#[must_use]
pub(crate) fn parse(answer: &str) -> Option<Vec<Server>> {
    let mut lines = answer.trim().lines();
    if lines.next()? != "1" {
        return None;
    }
    let columns: Vec<_> = lines.next()?.strip_prefix("# ")?.split(' ').collect();
    lines.map(|line| server(&columns, line)).collect()
}

fn server(columns: &[&str], line: &str) -> Option<Server> {
    let values: Vec<_> = line.split(' ').collect();
    let value = |name: &str| {
        let index = columns.iter().position(|column| *column == name)?;
        values.get(index).copied()
    };
    let number = |name: &str| value(name)?.parse::<u32>().ok();
    let ip = value("srv_addr")?.parse().ok();
    Some(Server {
        name: value("srv_name")?.to_owned(),
        place: ip.zip(value("srv_port")?.parse().ok()),
        is_stopped: number("srv_op_state")? == 0,
        admin_state: number("srv_admin_state")?,
        is_checked: number("srv_check_state")? & 0x02 != 0,
    })
}

/// What 2.6 answers to a change that was made, or was not needed.
#[must_use]
pub(crate) fn is_good(line: &str) -> bool {
    let is_address = ["IP changed from '", "no need to change the addr", "port changed from '"];
    line.trim().is_empty() || is_address.iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HAProxy 2.6.12 wrote it.
    const ANSWER: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state \
        srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status \
        srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id \
        srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
        srv_agent_addr srv_agent_port\n\
        3 web 1 web1 127.0.0.1 2 0 1 1 1 1 0 2 0 0 0 0 - 18001 - 0 0 - - 0\n\
        3 web 2 web2 ::1 0 1 1 1 1 1 0 0 0 0 0 0 - 18002 - 0 0 - - 0\n\
        3 web 3 web3 127.0.0.1 0 0 1 1 1 8 2 0 6 0 0 0 - 18002 - 0 0 - - 0\n\
        4 web 1 u - 2 0 1 1 2 1 0 2 0 0 0 0 - 0 - 0 0 - - 0\n\n";

    fn servers() -> Vec<Server> {
        parse(ANSWER).unwrap()
    }

    #[test]
    fn servers_are_read() {
        let servers = servers();
        let look = |s: &Server| (s.place.is_some(), s.is_stopped, s.admin_state, s.is_checked);
        assert_eq!(
            servers.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(" "),
            "web1 web2 web3 u"
        );
        assert_eq!(look(&servers[0]), (true, false, 0, false));
        assert_eq!(look(&servers[1]), (true, true, 1, false));
        assert_eq!(look(&servers[2]), (true, true, 0, true));
        assert_eq!(look(&servers[3]), (false, false, 0, false));
        let is_ready = |bits| Server { admin_state: bits, ..servers[0].clone() }.is_ready();
        assert_eq!([0, 1, 4, 5, 8].map(is_ready), [true, false, true, false, false]);
        assert_eq!(servers[1].place, Some(("::1".parse().unwrap(), 18002)));
        for answer in ["", "Can't find backend.\n\n", "Permission denied\n\n", "2\n# be_id\n"] {
            assert_eq!(parse(answer), None, "{answer}");
        }
    }

    #[test]
    fn a_server_is_led_to_a_place() {
        let place = ("::1".parse().unwrap(), 80);
        let commands = ["set server b/web1 addr ::1 port 80", "set server b/web1 state ready"];
        assert_eq!(servers()[0].lead_to("b", place), commands);
        // In maintenance without a check: ready is enough. Down by its check: `health up` is sent.
        assert_eq!(servers()[1].lead_to("b", place).len(), 2);
        assert_eq!(servers()[2].lead_to("b", place)[2], "set server b/web3 health up");
    }

    #[test]
    fn a_server_is_set_back_to_what_it_was() {
        let back: Vec<_> = servers().iter().flat_map(|server| server.set_back("b")).collect();
        let expected = [
            "set server b/web1 addr 127.0.0.1 port 18001",
            "set server b/web1 state ready",
            "set server b/web2 addr ::1 port 18002",
            "set server b/web2 state maint",
            "set server b/web3 addr 127.0.0.1 port 18002",
            "set server b/web3 state ready",
            "set server b/u state ready",
        ];
        assert_eq!(back, expected);
    }

    #[test]
    fn only_known_answers_are_good() {
        for (line, expected) in [
            ("", true),
            ("IP changed from '127.0.0.1' to '::1', port changed from '1' to '2' by 'x'", true),
            ("no need to change the addr, no need to change the port by 'x'", true),
            ("Invalid addr 'unix@/x' by 'stats socket command'", false),
            ("Permission denied", false),
            ("No such server.", false),
            ("Unknown command: 'set', but maybe", false),
        ] {
            assert_eq!(is_good(line), expected, "{line}");
        }
    }
}

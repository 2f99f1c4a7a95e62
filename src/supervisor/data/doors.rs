//! Ways out of a fence: what every program needs to live, and what the configuration allows.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::model::{Endpoint, RehearseConnect};
use crate::core::ordered::Ordered as _;
use crate::keeper::protocol::{Door, Fence, Otherwise, To};
use crate::os::isolate::Isolation;
use crate::os::{addresses, beneath, call_filter};
use crate::supervisor::data::live_ports;
use crate::supervisor::processes::fenced::Fenced;
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::sockets::stream;

const NAME_SERVICE: u16 = 53;
/// Sockets by which the C library looks up names and users, and by which programs log.
const SOCKETS: [&str; 10] = [
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/var/run/avahi-daemon/socket",
    "/dev/log",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/syslog",
    "/var/run/syslog",
];
const SOCKET_DIRS: [&str; 2] = ["/run/systemd/userdb", "/var/lib/sss/pipes"];

/// Why programs cannot be fenced here.
///
/// # Errors
/// The reason.
pub(super) fn fence_is_possible(service: &Service) -> Result<(), &'static str> {
    if !call_filter::is_supported() || !call_filter::is_known_machine() {
        return Err("this kernel does not report connect() (seccomp user notification, 5.9)");
    }
    if !service.link().can_fence() {
        return Err("the keeper is of an earlier version of Halley: restart halley-sup run");
    }
    Ok(())
}

/// A fence around the driver's own commands: they reach what programs on the copy reach, and no
/// server of the driver's.
pub(super) struct Around {
    fenced: Fenced,
    allowed: RehearseConnect,
    warnings: Vec<String>,
}

impl Around {
    /// Puts it up.
    pub(super) async fn put_up(service: &Service) -> Self {
        let allowed = service.config().rehearse_connect.clone();
        let mut warnings = Vec::new();
        let mut doors = common(service);
        doors.extend(listed(&allowed, &mut warnings).await);
        let fenced = Fenced::new(fence(service, doors, otherwise(&allowed)));
        Self { fenced, allowed, warnings }
    }

    /// Puts what is kept to a copy behind it.
    pub(super) fn around(&self, confinement: Confinement) -> Confinement {
        around(&self.fenced, confinement)
    }

    /// What commands were kept from, each line a sentence, and the line that allows it.
    pub(super) fn report(self) -> Vec<String> {
        let mut lines = self.warnings;
        lines.extend(report(&self.fenced, &self.allowed));
        lines
    }
}

/// What comes of all other addresses.
pub(super) fn otherwise(allowed: &RehearseConnect) -> Otherwise {
    match allowed {
        RehearseConnect::Listed(_) => Otherwise::Refuse,
        RehearseConnect::Any => Otherwise::Allow,
    }
}

/// A fence with these doors.
pub(super) fn fence(service: &Service, doors: Vec<Door>, otherwise: Otherwise) -> Fence {
    let trial = service.link().new_child().0;
    let [live, live_datagrams] = live_ports::alone(service);
    let live_paths = live_ports::paths(service);
    Fence { doors, otherwise, trial, live, live_datagrams, live_paths, ..Fence::default() }
}

/// Puts what is kept to a copy behind a fence.
pub(super) fn around(fenced: &Fenced, confinement: Confinement) -> Confinement {
    let own = confinement.isolation.as_ref().map(temporary).unwrap_or_default();
    Confinement { fenced: Some(fenced.with(own)), ..confinement }
}

/// What programs were kept from, each line a sentence, and the line that allows it.
pub(super) fn report(fenced: &Fenced, allowed: &RehearseConnect) -> Vec<String> {
    let refused = fenced.refused();
    let kept = refused.iter().map(|refused| {
        format!("{} (pid {}) was kept from {}", refused.program, refused.pid, refused.to)
    });
    let mut lines: Vec<String> = kept.collect();
    let reached = refused.into_iter().map(|refused| refused.to);
    lines.extend(line(allowed, reached.collect()).map(|line| {
        format!("if a rehearsal may connect there, write {line} in the service's section")
    }));
    lines
}

/// Sockets in directories for temporary files that are the program's own.
fn temporary(isolation: &Isolation) -> Vec<Door> {
    let is_seen_through = |at: &Path| isolation.visible.iter().any(|seen| seen.starts_with(at));
    let own = isolation.temporary.iter().filter(|own| !is_seen_through(&own.at));
    own.map(|own| Door { to: To::UnixBelow(own.at.clone()), via: None }).collect()
}

/// The line of a configuration that allows these as well.
pub(super) fn line(allowed: &RehearseConnect, more: Vec<String>) -> Option<String> {
    let RehearseConnect::Listed(listed) = allowed else { return None };
    // What has no address in this form cannot be allowed by itself.
    let more: BTreeSet<String> = more.into_iter().filter(|to| !to.contains(' ')).into_set();
    if more.is_empty() {
        return None;
    }
    let all = listed.iter().map(ToString::to_string).chain(more);
    let all: Vec<String> = all.map(|to| format!("{to:?}")).collect();
    Some(format!("rehearse_connect = [{}]", all.join(", ")))
}

/// Doors that every program needs.
pub(super) fn common(service: &Service) -> Vec<Door> {
    let names = addresses::name_servers().into_iter();
    let names = names.map(|ip| To::Inet(SocketAddr::new(ip, NAME_SERVICE)));
    let sockets = SOCKETS.map(|path| To::Unix(PathBuf::from(path)));
    let dirs = SOCKET_DIRS.map(|path| To::UnixBelow(PathBuf::from(path)));
    let notify = To::Unix(service.paths.notify_socket());
    let all = names.chain(sockets).chain(dirs).chain([notify]);
    all.map(|to| Door { to, via: None }).collect()
}

/// Doors that the configuration opens. Names are looked up now.
pub(super) async fn listed(allowed: &RehearseConnect, warnings: &mut Vec<String>) -> Vec<Door> {
    let RehearseConnect::Listed(listed) = allowed else { return Vec::new() };
    let mut doors = Vec::new();
    for endpoint in listed {
        match addresses_of(endpoint).await {
            Ok(to) => doors.extend(to.into_iter().map(|to| Door { to, via: None })),
            Err(error) => warnings.push(format!("rehearse_connect: {endpoint}: {error}")),
        }
    }
    doors
}

async fn addresses_of(endpoint: &Endpoint) -> io::Result<Vec<To>> {
    match endpoint {
        // Programs may name it by its own path or by a link's.
        Endpoint::Unix(path) => {
            let real = beneath::real(path).unwrap_or_else(|_| path.clone());
            Ok([path.clone(), real].map(To::Unix).into())
        }
        Endpoint::Host(host, port) => {
            let found = stream::look_up(format!("{host}:{port}")).await?;
            Ok(found.into_iter().map(door_to).collect())
        }
    }
}

/// Programs that mean this host try one of its loopback addresses, then the other.
pub(super) fn door_to(address: SocketAddr) -> To {
    if address.ip().to_canonical().is_loopback() {
        To::Loopback(address.port())
    } else {
        To::Inet(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_write_keeps_what_is_there() {
        let listed = RehearseConnect::Listed(vec![Endpoint::Host("mail.lan".to_owned(), 25)]);
        let more = ["127.0.0.1:6379", "/run/x.sock", "an address of family 40", "127.0.0.1:6379"];
        let more: Vec<String> = more.map(str::to_owned).into();
        assert_eq!(
            line(&listed, more.clone()).unwrap(),
            "rehearse_connect = [\"mail.lan:25\", \"/run/x.sock\", \"127.0.0.1:6379\"]"
        );
        assert_eq!(line(&listed, vec![more[2].clone()]), None);
        assert_eq!(line(&RehearseConnect::Any, more), None);
    }

    #[test]
    fn a_loopback_address_stands_for_this_host() {
        assert_eq!(door_to("127.0.0.1:6379".parse().unwrap()), To::Loopback(6379));
        assert_eq!(door_to("[::1]:6379".parse().unwrap()), To::Loopback(6379));
        let far: SocketAddr = "10.0.0.5:6379".parse().unwrap();
        assert_eq!(door_to(far), To::Inet(far));
    }
}

//! HAProxy's runtime API (docs.haproxy.org, management guide, 9.3): servers get other addresses;
//! nothing is loaded again and no connection is closed.
//! Each exchange is one connection with one line. HAProxy does its commands one by one and goes on
//! after one that fails, so the servers are looked at before and after, and set back when they are
//! not as they should be. It forgets all of it when it is started or reloaded.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::proxy::Admin;
use crate::config::proxy::haproxy::HaProxy;
use crate::supervisor::proxy::admin::{Place, connect};
use crate::supervisor::proxy::driver::{Driver, Host, Upstream, Work};
use crate::supervisor::proxy::error::{DEADLINE, EntryError};
use crate::supervisor::proxy::haproxy_server::{self, Server};

/// Most of an answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// What is done about "Permission denied".
const LEVEL: &str = "write level admin behind the address of `stats socket` in haproxy.cfg";

impl Driver for HaProxy {
    fn check<'a>(&'a self, n_upstreams: usize, _host: &'a dyn Host) -> Work<'a, String> {
        Box::pin(check(&self.admin, &self.backend, &self.server, n_upstreams))
    }

    fn flip<'a>(&'a self, upstreams: &'a [Upstream], _host: &'a dyn Host) -> Work<'a, ()> {
        Box::pin(flip(&self.admin, &self.backend, &self.server, upstreams))
    }

    fn forgets(&self) -> bool {
        true
    }
}

/// Whether the API may be written to, and the backend has enough servers.
///
/// # Errors
/// [`EntryError`].
async fn check(
    admin: &Admin,
    backend: &str,
    server: &str,
    n_upstreams: usize,
) -> Result<String, EntryError> {
    let api = Api::new(admin, backend);
    let level = api.ask("show cli level").await?;
    if level.trim() != "admin" {
        return Err(api.place.refused(format!("the level there is {}", level.trim()), LEVEL));
    }
    let servers = api.servers().await?;
    let (used, _) = api.assign(&servers, server, n_upstreams)?;
    let names: Vec<_> = used.iter().map(|server| server.name.as_str()).collect();
    Ok(format!("{}: backend {backend} has {}", api.place.name, names.join(", ")))
}

/// Gives the servers their addresses, makes them ready, and puts those beyond in maintenance.
///
/// # Errors
/// [`EntryError`].
async fn flip(
    admin: &Admin,
    backend: &str,
    server: &str,
    upstreams: &[Upstream],
) -> Result<(), EntryError> {
    let api = Api::new(admin, backend);
    let mut wanted = Vec::new();
    for upstream in upstreams {
        let Upstream::Tcp(address) = upstream else {
            let why = format!(
                "{upstream} cannot be a server: the API of haproxy takes IP addresses only"
            );
            return Err(api.place.refused(why, "let the instances listen on ports"));
        };
        wanted.push((address.ip(), address.port()));
    }
    let before = api.servers().await?;
    let (used, surplus) = api.assign(&before, server, wanted.len())?;
    let pairs = used.iter().zip(&wanted);
    let mut commands: Vec<_> =
        pairs.flat_map(|(server, place)| server.lead_to(backend, *place)).collect();
    commands.extend(surplus.iter().map(|server| server.state(backend, "maint")));
    let Err(why) = api.change(&commands, server, &wanted).await else { return Ok(()) };
    let all = used.iter().chain(&surplus);
    let back: Vec<_> = all.flat_map(|server| server.set_back(backend)).collect();
    let Err(worse) = api.tell(&back).await else { return Err(why) };
    let why = format!("{why}; setting the servers back: {worse}");
    Err(api.place.refused(why, api.place.next.clone()))
}

/// One backend of one HAProxy.
struct Api<'a> {
    admin: &'a Admin,
    backend: &'a str,
    place: Place,
}

impl<'a> Api<'a> {
    fn new(admin: &'a Admin, backend: &'a str) -> Self {
        let to = match admin {
            Admin::Tcp(address) => format!("TCP:{address}"),
            Admin::Unix(path) => path.display().to_string(),
        };
        let next = format!("echo 'show servers state {backend}' | socat - {to}");
        Self { admin, backend, place: Place { name: format!("haproxy at {admin}"), next } }
    }

    async fn servers(&self) -> Result<Vec<Server>, EntryError> {
        let answer = self.ask(&format!("show servers state {}", self.backend)).await?;
        haproxy_server::parse(&answer).ok_or_else(|| {
            let first = answer.trim().lines().next().unwrap_or("nothing");
            let why = format!("about backend {} it answered: {first}", self.backend);
            self.place.refused(why, self.hint(first))
        })
    }

    /// The servers that an upstream each is for, and those beyond. `web` is for one upstream;
    /// `web1`, `web2`, … are for as many.
    fn assign<'s>(
        &self,
        servers: &'s [Server],
        name: &str,
        n_upstreams: usize,
    ) -> Result<(Vec<&'s Server>, Vec<&'s Server>), EntryError> {
        let find = |name: &str| servers.iter().find(|server| server.name == name);
        let numbered = (1..).map_while(|n: usize| find(&format!("{name}{n}")));
        let mut numbered: Vec<_> = numbered.collect();
        let plain = find(name);
        if let (Some(_), false) = (plain, numbered.is_empty()) {
            let why = format!("backend {} has both {name} and {name}1", self.backend);
            return Err(self.place.refused(why, "take one of them out of haproxy.cfg"));
        }
        numbered.extend(plain);
        if numbered.len() < n_upstreams || numbered.is_empty() {
            let (n, backend) = (numbered.len(), self.backend);
            let why = match n_upstreams {
                0 | 1 => format!("backend {backend} has no server {name} or {name}1"),
                _ => format!(
                    "backend {backend} has {n} of {n_upstreams} servers {name}1, {name}2, …"
                ),
            };
            let next = format!("add in haproxy.cfg: server {name}{} 127.0.0.1:9 disabled", n + 1);
            return Err(self.place.refused(why, next));
        }
        let surplus = numbered.split_off(n_upstreams);
        Ok((numbered, surplus))
    }

    /// Sends it the change, and checks that it took effect.
    async fn change(
        &self,
        commands: &[String],
        name: &str,
        wanted: &[(IpAddr, u16)],
    ) -> Result<(), EntryError> {
        self.tell(commands).await?;
        let after = self.servers().await?;
        let (used, surplus) = self.assign(&after, name, wanted.len())?;
        let leads = |(server, place): (&&Server, &(IpAddr, u16))| {
            server.place == Some(*place) && server.is_ready()
        };
        if used.iter().zip(wanted).all(leads) && surplus.iter().all(|row| !row.is_ready()) {
            return Ok(());
        }
        let why = format!("backend {}'s servers are not as they were set", self.backend);
        Err(self.place.refused(why, self.place.next.clone()))
    }

    /// Sends commands; what is not a known good answer is an error.
    async fn tell(&self, commands: &[String]) -> Result<(), EntryError> {
        let answer = self.ask(&commands.join("; ")).await?;
        match answer.lines().find(|line| !haproxy_server::is_good(line)) {
            Some(bad) => Err(self.place.refused(format!("it answered: {bad}"), self.hint(bad))),
            None => Ok(()),
        }
    }

    fn hint(&self, said: &str) -> String {
        let denied = said.contains("Permission denied");
        if denied { LEVEL.to_owned() } else { self.place.next.clone() }
    }

    async fn ask(&self, line: &str) -> Result<String, EntryError> {
        match tokio::time::timeout(DEADLINE, exchange(self.admin, line)).await {
            Ok(said) => said.map_err(|source| self.place.unreachable(source)),
            Err(_) => Err(self.place.late()),
        }
    }
}

/// One line there, everything back.
async fn exchange(admin: &Admin, line: &str) -> io::Result<String> {
    let mut stream = connect(admin).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn servers(names: &str) -> Vec<Server> {
        let line = |name| format!("3 web 1 {name} 127.0.0.1 2 0 0 80\n");
        let head = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state \
                    srv_check_state srv_port\n";
        let lines: String = names.split_whitespace().map(line).collect();
        haproxy_server::parse(&format!("{head}{lines}")).unwrap()
    }

    fn check(names: &str, n_upstreams: usize) -> Result<(String, String), String> {
        let admin = Admin::Unix(PathBuf::from("/run/h.sock"));
        let servers = servers(names);
        let assigned = Api::new(&admin, "web").assign(&servers, "app", n_upstreams);
        let names = |servers: &[&Server]| {
            servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        assigned
            .map(|(used, surplus)| (names(&used), names(&surplus)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_upstream_has_a_server_and_the_others_are_surplus() {
        for (names, n_upstreams, used, surplus) in [
            ("app", 1, "app", ""),
            ("other app", 1, "app", ""),
            ("app1", 1, "app1", ""),
            ("app1 app2 app3", 1, "app1", "app2 app3"),
            ("app2 app1 app3 app5", 2, "app1 app2", "app3"),
            ("app1 app2", 2, "app1 app2", ""),
        ] {
            let expected = (used.to_owned(), surplus.to_owned());
            assert_eq!(check(names, n_upstreams), Ok(expected), "{names} {n_upstreams}");
        }
    }

    #[test]
    fn too_few_servers_are_told_with_the_line_to_add() {
        for (names, n_upstreams, text) in [
            ("", 1, "backend web has no server app or app1 (add in haproxy.cfg: server app1 "),
            ("app", 2, "backend web has 1 of 2 servers app1, app2, … (add in haproxy.cfg: "),
            ("app1", 3, "has 1 of 3 servers app1, app2, … (add in haproxy.cfg: server app2 "),
            ("app app1", 1, "backend web has both app and app1 (take one of them out"),
        ] {
            let error = check(names, n_upstreams).unwrap_err();
            assert!(error.starts_with("haproxy at /run/h.sock: "), "{error}");
            assert!(error.contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_is_refused_before_anything_is_sent() {
        let admin = Admin::Unix(PathBuf::from("/no/such.sock"));
        let upstream = Upstream::Unix(PathBuf::from("/run/a.sock"));
        let error = flip(&admin, "web", "app", &[upstream]).await.unwrap_err().to_string();
        assert!(error.contains("unix:/run/a.sock cannot be a server"), "{error}");
    }
}

//! Addresses that programs on a copy may reach, with the relay of the live database's server before them:
//! a pooler or a forwarder may stand there.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::core::ordered::Ordered as _;
use crate::keeper::protocol::{Door, LaunchUser, To};
use crate::os::{addresses, diag};
use crate::supervisor::data::doors;
use crate::supervisor::data::live_ports;
use crate::supervisor::data::relay::{Relay, Server};
use crate::supervisor::service::Service;

/// How the names of PostgreSQL's sockets begin.
const NAMED: &str = ".s.PGSQL.";

/// Every address of this host at which somebody listens but the live release, and every socket of a server
/// of PostgreSQL.
///
/// # Errors
/// The system's.
pub(super) fn of_this_host(service: &Service) -> io::Result<Vec<Door>> {
    let (own, [live, _]) = (addresses::local()?, live_ports::alone(service));
    let mut at: BTreeSet<SocketAddr> = BTreeSet::new();
    for row in listeners().into_iter().filter(|row| !live.contains(&row.local.port())) {
        let (ip, port) = (row.local.ip().to_canonical(), row.local.port());
        if ip.is_unspecified() {
            at.extend(own.iter().map(|ip| SocketAddr::new(*ip, port)));
            at.insert(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        } else {
            at.insert(SocketAddr::new(ip, port));
        }
    }
    let paths = diag::named().into_iter().map(|(_, path)| PathBuf::from(path));
    let paths = paths.filter(|path| path.is_absolute() && is_named(path)).into_set();
    let all = at.into_iter().map(doors::door_to).chain(paths.into_iter().map(To::Unix));
    Ok(all.map(|to| Door { to, via: None }).collect())
}

/// Leads those doors through the relay behind which the live database's server may be. `dir` is a
/// directory for sockets.
///
/// # Errors
/// The system's.
pub(super) async fn occupy(
    relay: &mut Relay,
    doors: &mut [Door],
    user: Option<&LaunchUser>,
    dir: &Path,
) -> io::Result<()> {
    let listened = listeners().into_iter().map(|row| row.local.port()).into_set();
    for (n, door) in doors.iter_mut().enumerate() {
        let server = match &door.to {
            To::Inet(at) => Server::Tcp(vec![*at]),
            // Nobody is there, and the program gets to know that as it would live.
            To::Loopback(port) if !listened.contains(port) => continue,
            To::Loopback(port) => {
                let ips = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
                Server::Tcp(ips.map(|ip| SocketAddr::new(ip, *port)).into())
            }
            To::Unix(path) if is_named(path) || relay.is_behind_any_path() => {
                Server::Unix(path.clone(), user.cloned())
            }
            To::Unix(_) | To::Port(_) | To::UnixBelow(_) | To::UnixNamed(_) => continue,
        };
        door.via = relay.stand_before(server, &dir.join(format!("allowed-{n}"))).await?;
    }
    Ok(())
}

fn listeners() -> Vec<diag::Row> {
    diag::rows(diag::Wanted { states: &[diag::LISTEN], ..diag::Wanted::default() })
}

fn is_named(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(NAMED))
}

//! Where MariaDB is, by all its addresses, the relay that stands there during a rehearsal, and what the
//! user of copies may do: it is the only one that gets through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::keeper::protocol::{Door, To};
use crate::os::{addresses, fs, local, proc};
use crate::supervisor::data::context::{Context, Kept};
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::mariadb_dump::ask;
use crate::supervisor::data::drivers::mariadb_url::Url;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::relay::{Guard, MariaDb, Protocol, Relay, Server, WayHere};
use crate::supervisor::sockets::stream;

/// Names of servers' sockets.
const SOCKETS: [&str; 3] = ["mysqld.sock", "mysql.sock", "mariadb.sock"];

/// What the user of copies could do besides: other databases that it sees, rights on the whole
/// server, roles that it may take.
const TOO_MUCH: &str = r"SELECT CONCAT('database ', schema_name) FROM information_schema.schemata
 WHERE schema_name NOT LIKE 'halley\_scratch\_%' AND LOWER(schema_name) NOT IN
 ('information_schema', 'performance_schema')
UNION ALL SELECT privilege_type FROM information_schema.user_privileges WHERE privilege_type <> 'USAGE'
UNION ALL SELECT CONCAT('role ', role_name) FROM information_schema.applicable_roles;
";

/// A server, by its addresses.
#[derive(Debug)]
struct Located {
    tcp: Vec<SocketAddr>,
    unix: PathBuf,
    /// All addresses that lead to it.
    doors: Vec<To>,
    ports: Vec<u16>,
}

/// Whether the user of copies can reach copies alone.
pub(super) async fn check_rights(context: &Context<'_>, copies: &Url, url_env: &str) -> Done {
    let said = ask(context, copies, "", "looking at rights", TOO_MUCH).await?;
    let rights: Vec<&str> = said.lines().collect();
    if rights.is_empty() {
        return Ok(());
    }
    let variable = url_env.to_owned();
    Err(DataError::TooManyRights { variable, rights: rights.join(", ") })
}

/// Puts a relay before the server.
pub(super) async fn guard(
    context: &Context<'_>,
    live: &Url,
    copies: &Url,
    url_env: &str,
    dir: &Path,
) -> Done<Guard> {
    let located = locate(context, copies).await?;
    let mariadb = Protocol::MariaDb(MariaDb { user: copies.user.clone() });
    let relay = Relay::new(mariadb, way_here(context, live), url_env);
    let mut guard = Guard { doors: Vec::new(), anywhere: Vec::new(), relay };
    fs::create_dir(dir, 0o700).map_err(DataError::at(dir))?;
    let own = dir.join("mariadb");
    let user = context.settings.user.as_deref().and_then(proc::user);
    let via = guard.relay.listen(Server::Tcp(located.tcp)).await.map_err(DataError::at(dir))?;
    let unix = Server::Unix(located.unix, user);
    let unix = guard.relay.listen_at(&own, unix).map_err(DataError::at(&own))?;
    for port in located.ports {
        guard.anywhere.push(Door { to: To::Port(port), via: Some(via.clone()) });
    }
    for to in located.doors {
        let via = if matches!(to, To::UnixNamed(_)) { &unix } else { &via };
        guard.doors.push(Door { to, via: Some(via.clone()) });
    }
    Ok(guard)
}

/// Asks, with the service's own login, whether the live server is found by way of another address.
fn way_here(context: &Context<'_>, live: &Url) -> WayHere {
    const WHICH: &str = "SELECT CONCAT_WS(' ', @@hostname, @@port, @@datadir, @@pid_file);\n";
    let (kept, live) = (Rc::new(Kept::of(context)), live.clone());
    Box::new(move |other: &Server| {
        let (kept, live, other) = (Rc::clone(&kept), live.clone(), other.clone());
        Box::pin(async move {
            let context = kept.context();
            let ask = async |url: &Url| ask(&context, url, "", "asking which server", WHICH).await;
            let Ok(own) = ask(&live).await else { return true };
            for by_way in by_ways(&live, &other) {
                if ask(&by_way).await.is_ok_and(|there| there == own) {
                    return true;
                }
            }
            false
        })
    })
}

fn by_ways(live: &Url, other: &Server) -> Vec<Url> {
    match other {
        Server::Tcp(addresses) => {
            addresses.iter().map(|to| live.at(to.ip().to_string(), to.port(), None)).collect()
        }
        Server::Unix(path, _) => vec![live.at(String::new(), live.port, Some(path.clone()))],
    }
}

/// Addresses at which programs find the server.
pub(super) async fn addresses(context: &Context<'_>, url: &Url) -> Done<Vec<To>> {
    Ok(locate(context, url).await?.doors)
}

async fn locate(context: &Context<'_>, url: &Url) -> Done<Located> {
    let own = addresses::local().map_err(DataError::at(Path::new("getifaddrs")))?;
    let tcp = if url.host.is_empty() { Vec::new() } else { look_up(url).await? };
    // The server may have more addresses than the service's URL names.
    let query = "SELECT @@port, @@socket;\n";
    let said = ask(context, url, "", "where the server is", query).await?;
    let (port, socket) = said.trim().split_once('\t').unwrap_or_default();
    Ok(of(url, tcp, port.parse().unwrap_or(url.port), Path::new(socket), &own))
}

async fn look_up(url: &Url) -> Done<Vec<SocketAddr>> {
    let at = |source| DataError::Io { path: PathBuf::from(&url.host), source };
    stream::look_up(format!("{}:{}", url.host, url.port)).await.map_err(at)
}

fn of(url: &Url, tcp: Vec<SocketAddr>, port: u16, socket: &Path, own: &[IpAddr]) -> Located {
    let is_own = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        ip.is_loopback() || ip.is_unspecified() || own.contains(&ip)
    };
    let is_local = url.socket.is_some() || tcp.is_empty() || tcp.iter().any(is_own);
    let mut located = Located {
        doors: tcp.iter().copied().map(To::Inet).collect(),
        tcp,
        unix: PathBuf::new(),
        ports: vec![url.port],
    };
    if !is_local {
        return located;
    }
    if port != url.port && port != 0 {
        located.ports.push(port);
    }
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    for port in located.ports.clone() {
        located.doors.push(To::Loopback(port));
        located.doors.extend(own.iter().map(|ip| To::Inet(SocketAddr::new(*ip, port))));
        located.tcp.extend(loopback.map(|ip| SocketAddr::new(ip, port)));
    }
    let known = url.socket.iter().map(PathBuf::as_path).chain([socket]);
    let known: Vec<&Path> = known.filter(|path| path.is_absolute()).collect();
    let own_names =
        known.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
    let mut names: Vec<String> = own_names.map(Into::into).collect();
    names.extend(SOCKETS.map(str::to_owned));
    let listening = names.iter().flat_map(|name| local::listeners_named(name));
    let found = known.iter().map(|path| path.to_path_buf()).chain(listening);
    located.unix = found.into_iter().find(|path| path.exists()).unwrap_or_default();
    located.doors.extend(names.into_iter().map(To::UnixNamed));
    located
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_this_host_is_found_by_all_its_addresses() {
        let own = ["127.0.0.1", "10.0.0.7"].map(|ip| ip.parse().unwrap());
        let at = |text: &str| vec![text.parse().unwrap()];
        let near = Url::parse("mysql://web@10.0.0.7:3307/app").unwrap();
        let near = of(&near, at("10.0.0.7:3307"), 3306, Path::new("/srv/my.sock"), &own);
        for to in [
            To::Loopback(3307),
            To::Loopback(3306),
            To::Inet("10.0.0.7:3306".parse().unwrap()),
            To::UnixNamed("my.sock".to_owned()),
            To::UnixNamed("mysqld.sock".to_owned()),
        ] {
            assert!(near.doors.contains(&to), "{to:?}: {:?}", near.doors);
        }
        let far = Url::parse("mysql://web@10.9.9.9/app").unwrap();
        let far = of(&far, at("10.9.9.9:3306"), 3306, Path::new("/run/x.sock"), &own);
        assert_eq!(far.doors, [To::Inet("10.9.9.9:3306".parse().unwrap())]);
    }
}

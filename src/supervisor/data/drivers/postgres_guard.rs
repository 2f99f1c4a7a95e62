//! Where PostgreSQL is, by all its addresses, and the relay that stands there during a rehearsal.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::keeper::protocol::{Door, To};
use crate::os::{addresses, fs, local, proc};
use crate::supervisor::data::context::{Context, Kept};
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::postgres_tools::{psql, text};
use crate::supervisor::data::drivers::postgres_url::Url;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::relay::{
    Guard, Names, Postgres, Protocol, Relay, Server, Sight, Sighting, WayHere,
};
use crate::supervisor::sockets::stream;

const PORT: u16 = 5432;
/// Where servers have their sockets, and where libpq looks for them.
const SOCKET_DIRS: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", "/tmp"];
/// What a service writes that takes no connection without TLS.
const TLS_MODES: [&str; 3] = ["require", "verify-ca", "verify-full"];

/// A server, as the service names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// A name, an address, or a directory; empty for the usual ones.
    host: String,
    port: u16,
}

/// A server, by its addresses.
#[derive(Debug)]
struct Located {
    port: u16,
    /// Where it answers, the service's own way first.
    tcp: Vec<SocketAddr>,
    /// All addresses that lead to it.
    doors: Vec<To>,
    /// Its socket, when it is on this host. Where there is none, nothing answers.
    unix: PathBuf,
}

/// Puts a relay before all servers that the service's URL names.
pub(super) async fn guard(
    context: &Context<'_>,
    url_env: &str,
    scratch: String,
    dir: &Path,
) -> Done<Guard> {
    let url = Url::of(context, url_env)?;
    let settings = &context.settings;
    let mode = url.env.get("PGSSLMODE").or(settings.env.get("PGSSLMODE"));
    let may_encrypt = mode.is_some_and(|mode| TLS_MODES.contains(&mode.as_str()));
    let names = Names { live: url.database.clone(), scratch: scratch.clone() };
    let asker = Asker::of(context, &url);
    let (sighting, is_way_here) = (sight(&asker, &scratch), way_here(&asker, &scratch));
    let postgres = Protocol::Postgres(Postgres { names, may_encrypt, sighting });
    let relay = Relay::new(postgres, is_way_here, url_env);
    let mut guard = Guard { doors: Vec::new(), anywhere: Vec::new(), relay };
    let user = settings.user.as_deref().and_then(proc::user);
    fs::create_dir(dir, 0o700).map_err(DataError::at(dir))?;
    for located in locate(&url, &settings.env).await? {
        let via = guard.relay.listen(Server::Tcp(located.tcp)).await.map_err(DataError::at(dir))?;
        let own = dir.join(located.port.to_string());
        let server = Server::Unix(located.unix, user.clone());
        let unix = guard.relay.listen_at(&own, server).map_err(DataError::at(&own))?;
        guard.anywhere.push(Door { to: To::Port(located.port), via: Some(via.clone()) });
        for to in located.doors {
            let via = if matches!(to, To::UnixNamed(_)) { &unix } else { &via };
            guard.doors.push(Door { to, via: Some(via.clone()) });
        }
    }
    Ok(guard)
}

/// Addresses at which programs find the servers.
pub(super) async fn addresses(context: &Context<'_>, url_env: &str) -> Done<Vec<To>> {
    let url = Url::of(context, url_env)?;
    let located = locate(&url, &context.settings.env).await?;
    Ok(located.into_iter().flat_map(|located| located.doors).collect())
}

/// Asks servers, from where nothing else of the driver is at hand.
struct Asker {
    kept: Kept,
    url: Url,
}

impl Asker {
    fn of(context: &Context<'_>, url: &Url) -> Rc<Self> {
        Rc::new(Self { kept: Kept::of(context), url: url.clone() })
    }

    async fn ask(&self, url: &Url, database: &str, query: &str) -> Option<String> {
        let context = self.kept.context();
        let asked = psql(&context, url, database, "looking at a connection", query).await;
        let told = asked.inspect_err(|error| {
            tracing::warn!(service = %context.service.name, %error, "looking at a connection");
        });
        told.ok()
    }
}

/// Asks the server which database a connection has opened, and ends one that must not be.
fn sight(asker: &Rc<Asker>, scratch: &str) -> Sight {
    let (asker, scratch) = (Rc::clone(asker), scratch.to_owned());
    Box::new(move |ip: IpAddr, port: u16| {
        let query = format!(
            "SELECT datname, CASE WHEN datname <> {text} THEN pg_terminate_backend(pid) END FROM \
             pg_stat_activity WHERE client_addr = '{ip}' AND client_port = {port} AND datname IS NOT \
             NULL",
            text = text(&scratch),
            ip = ip.to_canonical()
        );
        let (asker, scratch) = (Rc::clone(&asker), scratch.clone());
        Box::pin(async move {
            let said = asker.ask(&asker.url, &scratch, &query).await.unwrap_or_default();
            match said.lines().next().and_then(|line| line.rsplit_once('|')) {
                None => Sighting::None,
                Some((database, _)) if database == scratch => Sighting::Copy,
                Some((database, _)) => Sighting::Other(database.to_owned()),
            }
        })
    })
}

/// Asks whether the live database is found by way of another address: the server that has it tells
/// there, too, since when it runs.
fn way_here(asker: &Rc<Asker>, scratch: &str) -> WayHere {
    const SINCE: &str = "SELECT pg_postmaster_start_time()";
    let (asker, scratch) = (Rc::clone(asker), scratch.to_owned());
    Box::new(move |other: &Server| {
        let by_way = by_way_of(&asker.url, other);
        let (asker, scratch) = (Rc::clone(&asker), scratch.clone());
        Box::pin(async move {
            let Some(by_way) = by_way else { return false };
            let there = asker.ask(&by_way, &by_way.database, SINCE).await;
            there.is_some() && there == asker.ask(&asker.url, &scratch, SINCE).await
        })
    })
}

/// The service's URL by way of another address. What is there never sees the password itself (libpq 16).
fn by_way_of(url: &Url, other: &Server) -> Option<Url> {
    let (host, port) = match other {
        Server::Tcp(addresses) => {
            let hosts: Vec<String> = addresses.iter().map(|at| at.ip().to_string()).collect();
            (hosts.join(","), addresses.first()?.port().to_string())
        }
        // `.s.PGSQL.6432`
        Server::Unix(path, _) => {
            (path.parent()?.to_str()?.to_owned(), path.extension()?.to_str()?.to_owned())
        }
    };
    let mut url = url.clone();
    for (name, value) in [
        ("PGHOST", host.as_str()),
        ("PGHOSTADDR", ""),
        ("PGPORT", &port),
        ("PGSSLMODE", "prefer"),
        ("PGREQUIREAUTH", "!password"),
        ("PGCONNECT_TIMEOUT", "5"),
    ] {
        url.env.insert(name.to_owned(), value.to_owned());
    }
    Some(url)
}

/// Servers by name. Variables stand in for what the URL leaves out, as they do for libpq.
fn places(url: &Url, env: &BTreeMap<String, String>) -> Vec<Place> {
    let value = |name: &str| url.env.get(name).or(env.get(name)).cloned().unwrap_or_default();
    let (hosts, ports) = (value("PGHOST"), value("PGPORT"));
    let ports: Vec<Option<u16>> = ports.split(',').map(|port| port.trim().parse().ok()).collect();
    let is_list = hosts.contains(',');
    let place = |(n, host): (usize, &str)| {
        let host = host.trim();
        // In a list each host has its own port; the URL's port is that of the last one.
        let own = host.rsplit_once(':').filter(|_| is_list);
        let own = own.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let shared = ports.get(n).or(ports.last()).copied().flatten().unwrap_or(PORT);
        let (host, port) = own.unwrap_or((host, shared));
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Place { host, port }
    };
    hosts.split(',').enumerate().map(place).collect()
}

async fn locate(url: &Url, env: &BTreeMap<String, String>) -> Done<Vec<Located>> {
    let mut located = Vec::new();
    let own = addresses::local().map_err(DataError::at(Path::new("getifaddrs")))?;
    for place in places(url, env) {
        let is_path = place.host.is_empty() || place.host.starts_with(['/', '@']);
        let tcp = if is_path { Vec::new() } else { look_up(&place).await? };
        located.push(of(&place, tcp, &own));
    }
    Ok(located)
}

async fn look_up(place: &Place) -> Done<Vec<SocketAddr>> {
    let at = |error: io::Error| DataError::Io { path: PathBuf::from(&place.host), source: error };
    stream::look_up(format!("{}:{}", place.host, place.port)).await.map_err(at)
}

fn of(place: &Place, mut tcp: Vec<SocketAddr>, own: &[IpAddr]) -> Located {
    let port = place.port;
    let is_own = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        ip.is_loopback() || ip.is_unspecified() || own.contains(&ip)
    };
    let is_local = tcp.is_empty() || tcp.iter().any(is_own);
    let mut doors: Vec<To> = tcp.iter().copied().map(To::Inet).collect();
    let mut unix = PathBuf::new();
    if is_local {
        doors.push(To::Loopback(port));
        doors.extend(own.iter().map(|ip| To::Inet(SocketAddr::new(*ip, port))));
        let name = format!(".s.PGSQL.{port}");
        let named = place.host.starts_with('/').then(|| PathBuf::from(&place.host));
        let dirs = named.into_iter().chain(SOCKET_DIRS.map(PathBuf::from));
        let paths = dirs.map(|dir| dir.join(&name)).chain(local::listeners_named(&name));
        unix = paths.into_iter().find(|path| path.exists()).unwrap_or_default();
        doors.push(To::UnixNamed(name));
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        tcp.extend(loopback.map(|ip| SocketAddr::new(ip, port)));
    }
    Located { port, tcp, doors, unix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, env: &[(&str, &str)], expected: &[(&str, u16)]) {
        let url = Url::parse(text).unwrap();
        let env: BTreeMap<String, String> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let places = places(&url, &env);
        let places: Vec<_> = places.iter().map(|place| (place.host.as_str(), place.port)).collect();
        assert_eq!(places, expected, "{text}");
    }

    #[test]
    fn a_service_names_its_servers() {
        check("postgres://web@db.lan/app", &[], &[("db.lan", 5432)]);
        check("postgres://web@[::1]:6432/app", &[], &[("::1", 6432)]);
        check("postgres:///app?host=/run/pg", &[], &[("/run/pg", 5432)]);
        check("postgres:///app", &[("PGHOST", "db.lan"), ("PGPORT", "1")], &[("db.lan", 1)]);
        check("postgres:///app", &[], &[("", 5432)]);
        check("postgres://a:1,b:2/app", &[], &[("a", 1), ("b", 2)]);
    }

    #[test]
    fn another_address_is_asked_with_the_services_own_login() {
        let url = Url::parse("postgres://web:x@db.lan/app?sslmode=verify-full").unwrap();
        let by = |other: &Server| {
            let by = by_way_of(&url, other).unwrap();
            ["PGUSER", "PGHOST", "PGPORT", "PGSSLMODE"].map(|name| by.env[name].clone())
        };
        let local = ["127.0.0.1:6432", "[::1]:6432"].map(|at| at.parse().unwrap());
        assert_eq!(by(&Server::Tcp(local.into())), ["web", "127.0.0.1,::1", "6432", "prefer"]);
        let path = PathBuf::from("/run/bouncer/.s.PGSQL.6433");
        assert_eq!(by(&Server::Unix(path, None)), ["web", "/run/bouncer", "6433", "prefer"]);
    }

    #[test]
    fn a_server_of_this_host_is_found_by_all_its_addresses() {
        let own = ["127.0.0.1", "10.0.0.7"].map(|ip| ip.parse().unwrap());
        let place = |host: &str| Place { host: host.to_owned(), port: 5432 };
        let at = |text: &str| vec![text.parse().unwrap()];
        let near = of(&place("10.0.0.7"), at("10.0.0.7:5432"), &own);
        for to in [
            To::Loopback(5432),
            To::Inet("10.0.0.7:5432".parse().unwrap()),
            To::UnixNamed(".s.PGSQL.5432".to_owned()),
        ] {
            assert!(near.doors.contains(&to), "{to:?}: {:?}", near.doors);
        }
        assert_eq!(near.tcp[0], "10.0.0.7:5432".parse().unwrap());
        let far = of(&place("10.9.9.9"), at("10.9.9.9:5432"), &own);
        assert_eq!(far.doors, [To::Inet("10.9.9.9:5432".parse().unwrap())]);
        assert_eq!(far.unix, Path::new(""));
        assert!(of(&place(""), Vec::new(), &own).doors.contains(&To::Loopback(5432)));
    }
}

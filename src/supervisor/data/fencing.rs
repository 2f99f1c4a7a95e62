//! What programs may connect to while they are tried out on a copy of the data: the copy, what every
//! program needs to live, and what the configuration allows.
//!
//! A database server is reached through a relay ([`crate::supervisor::data::relay`]). A connection that is
//! refused must never fail a rehearsal by itself: the program decides what it does without; what it
//! was refused is reported with the line that allows it.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::api::status::RehearsalStatus;
use crate::config::model::{Endpoint, RehearseConnect};
use crate::core::ordered::Ordered as _;
use crate::keeper::protocol::{Door, Fence, Otherwise, To};
use crate::os::fence::{Destination, Passage};
use crate::os::isolate::Isolation;
use crate::os::{addresses, beneath, call_filter, diag, isolate, proc};
use crate::supervisor::data::backup::{self, Copied, Hand};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::relay::Relay;
use crate::supervisor::data::site::Means;
use crate::supervisor::processes::fenced::Fenced;
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;

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

/// Programs are kept from everything that is live as long as this lives.
pub(crate) struct Fencing {
    fenced: Fenced,
    relay: Option<Relay>,
    allowed: RehearseConnect,
    warnings: Vec<String>,
}

/// Why programs cannot be fenced here.
///
/// # Errors
/// The reason.
pub(crate) fn fence_is_possible(service: &Service) -> Result<(), &'static str> {
    if !call_filter::is_supported() || !call_filter::is_known_machine() {
        return Err("this kernel does not report connect() (seccomp user notification, 5.9)");
    }
    if !service.link().can_fence() {
        return Err("the keeper is of an earlier version of Halley: restart halley-sup run");
    }
    Ok(())
}

/// What a program is kept to here that is tried on a copy of the data, for `status`; nothing where no
/// backup is configured. It is tried out once: the kernel and the user stay.
pub(crate) async fn rehearsals(service: &Rc<Service>) -> Option<RehearsalStatus> {
    if let Some(known) = service.rehearsals.get() {
        return service.config().backup.as_ref().map(|_| known.clone());
    }
    let (isolation, why) = match backup::means(service).await? {
        Means::Mounts if isolate::needs_user_namespace() => ("user_namespace", None),
        Means::Mounts => ("mounts", None),
        Means::Landlock { why } => ("landlock", Some(why)),
        Means::None { why } => ("none", Some(why)),
    };
    let fence = fence_is_possible(service).is_ok();
    let found = RehearsalStatus { isolation: isolation.to_owned(), why, fence };
    Some(service.rehearsals.get_or_init(|| found).clone())
}

impl Fencing {
    /// Puts the relay and the fence in place for programs on this copy.
    ///
    /// # Errors
    /// When the live data could be reached past it.
    pub(crate) async fn open(
        service: &Rc<Service>,
        hand: &Hand<'_>,
        copied: &Copied,
    ) -> Result<Self, DataError> {
        let allowed = service.config().rehearse_connect.clone();
        let mut warnings = Vec::new();
        let guard = hand.guard(copied, &service.paths.run().join("relay")).await?;
        let (mut doors, mut anywhere) = (Vec::new(), Vec::new());
        // Before all others: what the configuration allows may be an address of the server.
        let relay = guard.map(|guard| {
            (doors, anywhere) = (guard.doors, guard.anywhere);
            guard.relay
        });
        doors.extend(common(service));
        doors.extend(listed(&allowed, &mut warnings).await);
        let otherwise = match allowed {
            RehearseConnect::Listed(_) => Otherwise::Refuse,
            RehearseConnect::Any => {
                doors.append(&mut anywhere);
                Otherwise::Allow
            }
        };
        let trial = service.link().new_child().0;
        let fenced = Fenced::new(Fence { doors, otherwise, trial, given: Vec::new() });
        Ok(Self { fenced, relay, allowed, warnings })
    }

    /// Puts what is kept to a copy behind the fence.
    pub(crate) fn around(&self, confinement: Confinement) -> Confinement {
        let own = confinement.isolation.as_ref().map(temporary).unwrap_or_default();
        Confinement { fenced: Some(self.fenced.with(own)), ..confinement }
    }

    /// Live data that a program has opened all the same.
    pub(crate) fn breach(&self) -> Option<String> {
        let seen = self.relay.as_ref().map(Relay::seen).unwrap_or_default();
        (!seen.opened.is_empty()).then(|| seen.opened.join("\n"))
    }

    /// What programs were kept from, each line a sentence, and the line that allows it.
    pub(crate) fn report(&self) -> Vec<String> {
        let refused = self.fenced.refused();
        let mut lines = self.warnings.clone();
        lines.extend(refused.iter().map(|refused| {
            format!("{} (pid {}) was kept from {}", refused.program, refused.pid, refused.to)
        }));
        let reached = refused.into_iter().map(|refused| refused.to);
        lines.extend(line(&self.allowed, reached.collect()).map(|line| {
            format!("if a rehearsal may connect there, write {line} in the service's section")
        }));
        let seen = self.relay.as_ref().map(Relay::seen).unwrap_or_default();
        lines
            .extend(seen.refused.into_iter().map(|text| format!("{text}: refused in a rehearsal")));
        lines
    }
}

/// What the serving release is connected to, and a rehearsal on a copy would be kept from.
pub(crate) async fn foreseen(service: &Rc<Service>) -> Option<String> {
    let allowed = service.config().rehearse_connect.clone();
    let hand = Hand::of(service, service.paths.logs().join("backup.log"))?;
    if let Err(why) = fence_is_possible(service) {
        return Some(format!("programs will not be tried on a copy of the data: {why}"));
    }
    if allowed == RehearseConnect::Any {
        return None;
    }
    let crew = service.live_crew()?;
    let mut doors = common(service);
    // What cannot be looked up now is reported by the rehearsal.
    let own = hand.addresses().await.unwrap_or_default();
    doors.extend(own.into_iter().map(|to| Door { to, via: None }));
    doors.extend(listed(&allowed, &mut Vec::new()).await);
    let fence = Fence { doors, ..Fence::default() };
    let pids = crew.instances().iter().filter_map(|instance| instance.pid()).collect::<Vec<_>>();
    let trees = pids.into_iter().flat_map(|pid| proc::tree(pid).into_iter().chain([pid]));
    let inodes: BTreeSet<u64> = trees.flat_map(proc::socket_inodes).into_set();
    let reached = outgoing(&inodes).into_iter().map(Destination::Inet);
    let shut = reached.filter(|to| fence.passage(to) == Passage::Shut);
    let shut: BTreeSet<String> = shut.map(|to| to.to_string()).into_set();
    let named: Vec<&str> = shut.iter().map(String::as_str).collect();
    let named = named.join(", ");
    let line = line(&allowed, shut.into_iter().collect())?;
    Some(format!(
        "the serving release is connected to {named}, which programs on a copy of the data cannot \
         reach; if they may, write {line} in the service's section"
    ))
}

/// Where connections of these sockets lead; those that came in are left out.
fn outgoing(inodes: &BTreeSet<u64>) -> BTreeSet<SocketAddr> {
    let wanted = |states| diag::Wanted { states, ..diag::Wanted::default() };
    let listening: BTreeSet<u16> =
        diag::rows(wanted(&[diag::LISTEN])).into_iter().map(|row| row.local.port()).into_set();
    let rows = diag::rows(wanted(&[diag::ESTABLISHED])).into_iter();
    let rows = rows.filter(|row| inodes.contains(&row.inode));
    rows.filter(|row| !listening.contains(&row.local.port())).map(|row| row.remote).into_set()
}

/// Sockets in directories for temporary files that are the program's own.
fn temporary(isolation: &Isolation) -> Vec<Door> {
    let is_seen_through = |at: &Path| isolation.visible.iter().any(|seen| seen.starts_with(at));
    let own = isolation.temporary.iter().filter(|own| !is_seen_through(&own.at));
    own.map(|own| Door { to: To::UnixBelow(own.at.clone()), via: None }).collect()
}

/// The line of a configuration that allows these as well.
fn line(allowed: &RehearseConnect, more: Vec<String>) -> Option<String> {
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
fn common(service: &Service) -> Vec<Door> {
    let names = addresses::name_servers().into_iter();
    let names = names.map(|ip| To::Inet(SocketAddr::new(ip, NAME_SERVICE)));
    let sockets = SOCKETS.map(|path| To::Unix(PathBuf::from(path)));
    let dirs = SOCKET_DIRS.map(|path| To::UnixBelow(PathBuf::from(path)));
    let notify = To::Unix(service.paths.notify_socket());
    let all = names.chain(sockets).chain(dirs).chain([notify]);
    all.map(|to| Door { to, via: None }).collect()
}

/// Doors that the configuration opens. Names are looked up now.
async fn listed(allowed: &RehearseConnect, warnings: &mut Vec<String>) -> Vec<Door> {
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
            let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
            Ok(found.map(door_to).collect())
        }
    }
}

/// Programs that mean this host try one of its loopback addresses, then the other.
fn door_to(address: SocketAddr) -> To {
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

    #[test]
    fn connections_that_came_in_are_not_outgoing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        let inode =
            |socket: &dyn std::os::fd::AsFd| crate::os::listen::inode(socket.as_fd()).unwrap();
        let found = outgoing(&BTreeSet::from([inode(&client), inode(&server)]));
        assert_eq!(found, BTreeSet::from([address]));
    }
}

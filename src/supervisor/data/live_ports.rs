//! Sockets of the service itself: of the release that serves, and of those that are kept warm or drain. For
//! a program that is tried out, nobody is there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use crate::config::model::Listen;
use crate::core::ordered::Ordered as _;
use crate::os::{diag, proc};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;

/// Inodes of the sockets of the release that serves.
pub(super) fn sockets(service: &Service) -> BTreeSet<u64> {
    processes(service.live_generation()).into_iter().flat_map(proc::socket_inodes).into_set()
}

/// Where the unix sockets of all are, and what those without a file are called.
pub(super) fn paths(service: &Service) -> BTreeSet<PathBuf> {
    let named = diag::named();
    let of = |pid: i32| {
        let inodes = proc::socket_inodes(pid);
        let own = named.iter().filter(move |(inode, _)| inodes.contains(inode));
        // A program that has changed its directory since is not found by a name of there.
        let dir = proc::cwd(pid).unwrap_or_default();
        own.map(move |(_, name)| match name.starts_with('@') {
            true => PathBuf::from(name),
            false => dir.join(name),
        })
    };
    processes(service.fleet.all()).into_iter().flat_map(of).into_set()
}

fn processes(of: impl IntoIterator<Item = Rc<Generation>>) -> Vec<i32> {
    let instances = of.into_iter().flat_map(|generation| generation.instances());
    let pids = instances.filter_map(|instance| instance.pid());
    pids.flat_map(|pid| proc::tree(pid).into_iter().chain([pid])).collect()
}

/// Ports at which nobody else listens, for streams and for datagrams; those of the service among them.
pub(super) fn alone(service: &Service) -> [Vec<u16>; 2] {
    let own = processes(service.fleet.all()).into_iter().flat_map(proc::socket_inodes).into_set();
    let listening = diag::Wanted { states: &[diag::LISTEN], ..diag::Wanted::default() };
    let mut ports = [diag::rows(listening), diag::datagrams()].map(|rows| alone_of(&rows, &own));
    for listen in &service.config().listen {
        match listen {
            Listen::Tcp(at) => ports[0].push(at.port()),
            Listen::Udp(at) => ports[1].push(at.port()),
            Listen::Unix(_) => {}
        }
    }
    ports
}

fn alone_of(rows: &[diag::Row], own: &BTreeSet<u64>) -> Vec<u16> {
    let is_own = |row: &&diag::Row| own.contains(&row.inode);
    let port = |row: &diag::Row| row.local.port();
    let others = rows.iter().filter(|row| !is_own(row)).map(port).into_set();
    let ports = rows.iter().filter(is_own).map(port);
    ports.filter(|port| !others.contains(port)).collect()
}

/// Where connections of these sockets lead; those that came in are left out.
pub(super) fn outgoing(inodes: &BTreeSet<u64>) -> BTreeSet<SocketAddr> {
    let wanted = |states| diag::Wanted { states, ..diag::Wanted::default() };
    let listening: BTreeSet<u16> =
        diag::rows(wanted(&[diag::LISTEN])).into_iter().map(|row| row.local.port()).into_set();
    let rows = diag::rows(wanted(&[diag::ESTABLISHED])).into_iter();
    let rows = rows.filter(|row| inodes.contains(&row.inode));
    rows.filter(|row| !listening.contains(&row.local.port())).map(|row| row.remote).into_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_others_share_is_not_the_live_releases_alone() {
        let row = |port: u16, inode: u64| {
            let at = SocketAddr::new([127, 0, 0, 1].into(), port);
            diag::Row { local: at, remote: at, state: diag::LISTEN, inode }
        };
        let rows = [row(1, 10), row(2, 10), row(2, 11), row(3, 12), row(4, 13)];
        assert_eq!(alone_of(&rows, &BTreeSet::from([10, 13])), [1, 4]);
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

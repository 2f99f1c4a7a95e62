//! How many connections a generation still has, as the kernel reports it; no program is asked.
//!
//! Every process of the machine and every TCP socket, also those that ended in the last minute, are
//! passed on the way. After a hundred thousand short connections that takes tens of milliseconds, so
//! a thread of its own does it: the event loop goes on meanwhile.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;

use crate::config::model::Listen;
use crate::core::ordered::Ordered as _;
use crate::os::{listen, local, proc};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::sockets::backend_address::BackendAddress;
use crate::supervisor::sockets::listener::Listener;
use crate::supervisor::spawn;

/// Connections that came in through the service's listeners, or at the instances' own places where
/// a proxy leads, and that a process of this generation has.
pub(crate) async fn of(service: &Service, generation: &Generation) -> usize {
    of_instances(service, &generation.instances()).await
}

/// The same of some of them.
pub(crate) async fn of_instances(service: &Service, instances: &[Rc<Instance>]) -> usize {
    Sought::of(service, instances).counted().await
}

/// Connections of these processes at these places.
struct Sought {
    pids: Vec<i32>,
    ports: BTreeSet<u16>,
    paths: Vec<PathBuf>,
}

impl Sought {
    fn of(service: &Service, instances: &[Rc<Instance>]) -> Self {
        // What a forwarder has is what users have; the program's side of it is the same again.
        let pid = |instance: &Rc<Instance>| {
            let forwarder = instance.forwarder.run().map(|run| run.identity.pid);
            forwarder.or(instance.pid())
        };
        let pids = instances.iter().filter_map(pid).collect();
        let config = service.config();
        let mut ports: BTreeSet<u16> = config
            .listen
            .iter()
            .filter_map(|listen| match listen {
                Listen::Tcp(address) => Some(address.port()),
                Listen::Udp(_) | Listen::Unix(_) => None,
            })
            .into_set();
        let mut paths = Vec::new();
        if config.proxy.is_some() {
            for instance in instances {
                match &instance.place {
                    Some(BackendAddress::Port(port)) => drop(ports.insert(*port)),
                    Some(BackendAddress::Socket(path)) => paths.push(path.clone()),
                    None => {}
                }
            }
        }
        for (index, listener) in service.slots.listeners().iter().enumerate() {
            if let Listener::Door(door) = listener {
                let slots: BTreeSet<_> =
                    instances.iter().filter_map(|instance| instance.slots.get(index)).into_set();
                paths.extend(slots.into_iter().filter_map(|id| door.borrow().bound_path(*id)));
            }
        }
        Self { pids, ports, paths }
    }

    async fn counted(self) -> usize {
        // What was not counted is not gone.
        spawn::blocking(move || self.count()).await.unwrap_or(usize::MAX)
    }

    fn count(&self) -> usize {
        let parents = proc::parents();
        let tree = |pid: &i32| proc::tree_in(&parents, *pid);
        let inodes = self.pids.iter().flat_map(tree).flat_map(proc::socket_inodes).into_set();
        listen::n_connections(&self.ports, &inodes) + local::n_connections(&self.paths, &inodes)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn the_event_loop_goes_on_while_connections_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let _server = listener.accept().unwrap();
        let sought = || Sought {
            pids: vec![i32::try_from(std::process::id()).unwrap()],
            ports: BTreeSet::from([address.port()]),
            paths: Vec::new(),
        };
        let mut counting = std::pin::pin!(sought().counted());
        let first = std::future::poll_fn(|context| Poll::Ready(counting.as_mut().poll(context)));
        assert!(first.await.is_pending(), "it was counted on the way");
        assert_eq!(counting.await, 1);
    }
}

//! How many connections a generation still has, as the kernel reports it; no program is asked.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::config::model::Listen;
use crate::core::ordered::Ordered as _;
use crate::os::{listen, local, proc};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::sockets::backend_address::BackendAddress;
use crate::supervisor::sockets::listener::Listener;

/// Connections that came in through the service's listeners, or at the instances' own places where
/// a proxy leads, and that a process of this generation has.
pub(crate) fn of(service: &Service, generation: &Generation) -> usize {
    of_instances(service, &generation.instances())
}

/// The same of some of them.
pub(crate) fn of_instances(service: &Service, instances: &[Rc<Instance>]) -> usize {
    let mut inodes = BTreeSet::new();
    for instance in instances {
        let forwarder = instance.forwarder.run().map(|run| run.identity.pid);
        // What a forwarder has is what users have; the program's side of it is the same again.
        let pid = forwarder.or(instance.pid());
        for pid in pid.into_iter().flat_map(|pid| proc::tree(pid).into_iter().chain([pid])) {
            inodes.extend(proc::socket_inodes(pid));
        }
    }
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
    listen::n_connections(&ports, &inodes) + local::n_connections(&paths, &inodes)
}

//! The outside proxy of a service, where there is one: led to the processes of a generation.

use crate::supervisor::proxy::keeper_host::KeeperHost;
use crate::supervisor::proxy::{self, EntryError, Upstream};
use crate::supervisor::service::Service;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::instances::Generation;
use crate::supervisor::sockets::backend_address::BackendAddress;

/// Points the proxy at a generation. Whether it could be is in the condition from here on.
///
/// # Errors
/// The proxy's error; the proxy then keeps its previous upstreams.
pub(crate) async fn point(service: &Service, generation: &Generation) -> Result<(), EntryError> {
    let config = service.config();
    let Some(proxy) = &config.proxy else {
        service.condition.resolve(Source::Proxy);
        return Ok(());
    };
    let instances = generation.instances();
    let places = instances.iter().filter_map(|instance| instance.place.as_ref());
    let upstreams: Vec<Upstream> = places.map(upstream).collect();
    let pointed = proxy::flip(proxy, &upstreams, &host(service)).await;
    match &pointed {
        Ok(()) => drop(service.condition.resolve(Source::Proxy)),
        Err(error) => service.condition.report(Source::Proxy, error.to_string()),
    }
    pointed
}

/// Runs the commands of the proxy.
pub(crate) fn host(service: &Service) -> KeeperHost<'_> {
    KeeperHost { link: &service.shared.link, service: &service.name }
}

fn upstream(place: &BackendAddress) -> Upstream {
    match place {
        BackendAddress::Port(port) => Upstream::Tcp(BackendAddress::address(*port)),
        BackendAddress::Socket(path) => Upstream::Unix(path.clone()),
    }
}

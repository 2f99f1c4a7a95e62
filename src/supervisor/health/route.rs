//! The way of a check's command to exactly one process, while users' connections go elsewhere.
//!
//! Two of them, gone with this value: what the command sends from one address of the loopback net
//! arrives at that process's slots (`curl --interface {probe_source}`, `dig -b {probe_source}`);
//! and what it sends to one port is passed on to it (`pg_isready -p {probe_port}`).

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::config::model::Listen;
use crate::keeper::protocol::{ChildId, Door, LaunchSpec, To};
use crate::os::listen;
use crate::supervisor::health::connection;
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::service::instances::Instance;
use crate::supervisor::sockets::listener::{Listener, ListenerError};
use crate::supervisor::sockets::reuseport_group::Group;
use crate::supervisor::spawn;

/// Why there is no such way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    /// An address could not be led to the process.
    #[error(transparent)]
    Rule(#[from] ListenerError),
    /// A port could not be opened.
    #[error("a port for a check: {0}")]
    Port(#[source] io::Error),
}

/// The way to one process.
#[derive(Debug)]
pub(crate) struct Route {
    source: SocketAddr,
    groups: Vec<Rc<RefCell<Group>>>,
    port: Option<(u16, JoinHandle<()>)>,
}

impl Route {
    /// Opens the way; `number` makes it another than any at the same time.
    ///
    /// # Errors
    /// [`RouteError`].
    pub(crate) async fn open(
        service: &Rc<Service>,
        instance: &Rc<Instance>,
        number: u64,
    ) -> Result<Self, RouteError> {
        let [.., high, low] = number.to_be_bytes();
        let ip = Ipv4Addr::new(127, 83, high, low.max(1));
        let mut way =
            Self { source: SocketAddr::new(ip.into(), 0), groups: Vec::new(), port: None };
        for (listener, slot) in service.slots.listeners().iter().zip(&instance.slots) {
            let Listener::Group(group) = listener else { continue };
            group.borrow_mut().add_rule(way.source, *slot)?;
            way.groups.push(Rc::clone(group));
        }
        if service.config().is_called_by_streams() {
            let opened = pass_on(service, instance).await;
            way.port = Some(opened.map_err(RouteError::Port)?);
        }
        Ok(way)
    }

    /// Passes it to a command: in its arguments and in its environment.
    pub(crate) fn tell(&self, words: &mut [String], env: &mut Vec<(String, String)>) {
        let source = self.source.ip().to_string();
        let port = self.port.as_ref().map(|(port, _)| port.to_string()).unwrap_or_default();
        for arg in words.iter_mut().skip(1) {
            *arg = arg.replace("{probe_source}", &source).replace("{probe_port}", &port);
        }
        env.push(("HALLEY_PROBE_SOURCE".to_owned(), source));
        env.push(("HALLEY_PROBE_PORT".to_owned(), port));
    }

    /// A command that looks at a fenced program is behind the same fence, but for this way.
    pub(crate) fn surround(
        &self,
        kept_to: &Confinement,
        service: &Service,
        child: ChildId,
        spec: &mut LaunchSpec,
    ) {
        kept_to.surround(service.link(), child, spec);
        let Some(fence) = &mut spec.fence else { return };
        let own = self.port.as_ref().map(|(port, _)| To::Loopback(*port));
        let config = service.config();
        let listen = config.listen.iter().filter_map(|listen| match listen {
            Listen::Tcp(address) | Listen::Udp(address) => {
                let address = listen::reachable(*address);
                let is_loopback = address.ip().is_loopback();
                let port = To::Loopback(address.port());
                Some(if is_loopback { port } else { To::Inet(address) })
            }
            Listen::Unix(_) => None,
        });
        let ways = own.into_iter().chain(listen).map(|to| Door { to, via: None });
        fence.doors.splice(..0, ways);
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        for group in &self.groups {
            group.borrow_mut().remove_rule(self.source);
        }
        if let Some((_, task)) = &self.port {
            task.abort();
        }
    }
}

async fn pass_on(
    service: &Rc<Service>,
    instance: &Rc<Instance>,
) -> io::Result<(u16, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let (service, instance) = (Rc::clone(service), Rc::clone(instance));
    let task = spawn::local(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (service, instance) = (Rc::clone(&service), Rc::clone(&instance));
            spawn::local(async move { splice(&service, &instance, client).await });
        }
    });
    Ok((port, task))
}

async fn splice(service: &Service, instance: &Instance, mut client: TcpStream) {
    let Ok(mut program) = connection::connect(service, instance).await else { return };
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut program).await {
        tracing::debug!(%error, "a check's connection ended");
    }
}

//! Stands between programs that are tried out on a copy of the data, and their database server, as
//! long as a rehearsal lasts. By whatever address a program finds the server, it must never get
//! anything but the copy.
//!
//! The fence around a program leads its connections here. What is encrypted end to end is watched
//! from outside instead ([`postgres`]). What a statement on the copy makes the server itself do, such
//! as a foreign data wrapper, is not seen here.

mod allowed;
mod hub;
mod inspected;
mod mariadb;
mod mariadb_packets;
mod postgres;
mod startup;

use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::{JoinHandle, JoinSet};

use crate::keeper::protocol::{Door, LaunchUser, Via};
use crate::os::{beneath, local};
use crate::supervisor::sockets::stream::Stream;
use crate::supervisor::spawn;

use self::allowed::Allowed;
use self::hub::{Hub, Seen};

pub(crate) use self::allowed::WayHere;
pub(crate) use self::hub::Server;
pub(crate) use self::mariadb::MariaDb;
pub(crate) use self::postgres::{Postgres, Sight, Sighting};
pub(crate) use self::startup::Names;

/// What is spoken with a server, and what must be kept from it.
pub(crate) enum Protocol {
    /// The live database is replaced by name.
    Postgres(Postgres),
    /// Only the user of copies is let in.
    MariaDb(MariaDb),
}

impl Protocol {
    async fn carry(&self, client: Stream, server: &Server, hub: &Hub) -> io::Result<()> {
        match self {
            Self::Postgres(postgres) => postgres.carry(client, server, hub).await,
            Self::MariaDb(mariadb) => mariadb.carry(client, server, hub).await,
        }
    }

    /// Servers of the other one speak first.
    fn begins_with_client(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

/// A relay, with the doors of the fences that lead to it.
pub(crate) struct Guard {
    /// Addresses of the server.
    pub(crate) doors: Vec<Door>,
    /// For fences that let everything else through: the server may have addresses that are not known.
    pub(crate) anywhere: Vec<Door>,
    /// Takes the connections.
    pub(crate) relay: Relay,
}

/// Connections are taken as long as this lives.
pub(crate) struct Relay {
    hub: Rc<Hub>,
    protocol: Rc<Protocol>,
    is_way_here: Rc<WayHere>,
    /// Where connections go by default.
    server: Option<Server>,
    listening: Vec<JoinHandle<()>>,
    paths: Vec<PathBuf>,
}

impl Relay {
    /// One that takes no connections yet.
    pub(crate) fn new(protocol: Protocol, is_way_here: WayHere, url_env: &str) -> Self {
        let product = match &protocol {
            Protocol::Postgres(_) => "PostgreSQL",
            Protocol::MariaDb(_) => "MariaDB",
        };
        let (hub, protocol) = (Rc::new(Hub::new(url_env, product)), Rc::new(protocol));
        let (is_way_here, server) = (Rc::new(is_way_here), None);
        Self { hub, protocol, is_way_here, server, listening: Vec::new(), paths: Vec::new() }
    }

    /// Takes connections for this server over the loopback interface.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn listen(&mut self, server: Server) -> io::Result<Via> {
        self.server.get_or_insert_with(|| server.clone());
        self.listen_for(server, None).await
    }

    /// Whether it shows what is behind a unix socket of any name: what the server says first does.
    pub(crate) fn is_behind_any_path(&self) -> bool {
        !self.protocol.begins_with_client()
    }

    /// Takes connections for all other addresses, and paths, that programs may reach, and is told which:
    /// this server may be behind them. `own` is a path for a socket. Nothing where no server is known.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn stand_before(
        &mut self,
        user: Option<LaunchUser>,
        own: &Path,
    ) -> io::Result<Option<[Via; 2]>> {
        let Some(server) = self.server.clone() else { return Ok(None) };
        let secret = beneath::unguessable(OsStr::new(""))?.to_string_lossy().into_owned();
        let allowed = Some(Allowed::new(Rc::clone(&self.is_way_here), user, secret.clone()));
        let inet = self.listen_for(server.clone(), allowed.clone()).await?;
        let unix = self.listen_at_for(own, server, allowed)?;
        Ok(Some([inet, unix].map(|via| Via::Asked(Box::new(via), secret.clone()))))
    }

    async fn listen_for(&mut self, server: Server, allowed: Option<Allowed>) -> io::Result<Via> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let via = Via::Inet(listener.local_addr()?);
        let begin = self.beginner(server, allowed);
        self.listening.push(spawn::local(async move {
            let mut sessions = JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => begin(&mut sessions, Stream::Tcp(stream)),
                    Err(error) => pause(&error).await,
                }
            }
        }));
        Ok(via)
    }

    /// Takes connections for this server at a path, which only Halley can reach.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn listen_at(&mut self, path: &Path, server: Server) -> io::Result<Via> {
        self.listen_at_for(path, server, None)
    }

    fn listen_at_for(
        &mut self,
        path: &Path,
        server: Server,
        allowed: Option<Allowed>,
    ) -> io::Result<Via> {
        drop(local::remove(path));
        let listener = UnixListener::bind(path)?;
        self.paths.push(path.to_owned());
        let begin = self.beginner(server, allowed);
        self.listening.push(spawn::local(async move {
            let mut sessions = JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => begin(&mut sessions, Stream::Unix(stream)),
                    Err(error) => pause(&error).await,
                }
            }
        }));
        Ok(Via::Unix(path.to_owned()))
    }

    /// What programs have tried so far.
    pub(crate) fn seen(&self) -> Seen {
        self.hub.seen()
    }

    /// Begins sessions with this server. They end with the listener's task.
    fn beginner(
        &self,
        server: Server,
        allowed: Option<Allowed>,
    ) -> impl Fn(&mut JoinSet<()>, Stream) + use<> {
        let (hub, protocol) = (Rc::clone(&self.hub), Rc::clone(&self.protocol));
        move |sessions, client| {
            while sessions.try_join_next().is_some() {}
            let (server, hub, protocol) = (server.clone(), Rc::clone(&hub), Rc::clone(&protocol));
            let allowed = allowed.clone();
            sessions.spawn_local(async move {
                let carried = match allowed {
                    Some(allowed) => allowed.carry(&protocol, client, &server, &hub).await,
                    None => protocol.carry(client, &server, &hub).await,
                };
                if let Err(error) = carried {
                    tracing::debug!(%error, "a connection to the copy ended");
                }
            });
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for task in &self.listening {
            task.abort();
        }
        for path in &self.paths {
            drop(local::remove(path));
        }
    }
}

/// Out of descriptors, for example: others end meanwhile.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "taking a connection to the copy");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

//! Stands between programs that are tried out on a copy of the data, and their PostgreSQL server, as
//! long as a rehearsal lasts. By whatever address or name a program finds the live database, it gets
//! the copy; it must never get anything else of the server.
//!
//! The fence around a program leads its connections here. What is encrypted end to end is watched
//! from outside instead ([`session`]). What a statement on the copy makes the server itself do, such
//! as a foreign data wrapper, is not seen here.

mod session;
mod startup;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::{JoinHandle, JoinSet};

use crate::keeper::protocol::{Door, Via};
use crate::os::{diag, local, proc};
use crate::supervisor::sockets::stream::Stream;

pub(crate) use self::session::Server;
pub(crate) use self::startup::Names;

/// Which database an encrypted connection has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// None yet, or none that is shown to the service's role.
    None,
    /// The copy.
    Copy,
    /// This one; the server has ended the connection.
    Other(String),
}

/// Asks the server about the connection from this address.
pub(crate) type Sight = Box<dyn Fn(IpAddr, u16) -> Pin<Box<dyn Future<Output = Sighting>>>>;

/// What all connections share.
pub(super) struct Hub {
    names: Names,
    /// The variable that has the URL of the copy.
    url_env: String,
    /// The service demands TLS, so what is encrypted is carried end to end.
    may_encrypt: bool,
    sighting: Sight,
    seen: RefCell<Seen>,
}

/// What programs tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Programs, and what they were refused.
    pub(crate) refused: Vec<String>,
    /// Programs, and which database they opened that they must not open.
    pub(crate) opened: Vec<String>,
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
    listening: Vec<JoinHandle<()>>,
    paths: Vec<PathBuf>,
}

impl Relay {
    /// One that takes no connections yet.
    pub(crate) fn new(names: Names, url_env: &str, may_encrypt: bool, sighting: Sight) -> Self {
        let url_env = url_env.to_owned();
        let seen = RefCell::default();
        let hub = Hub { names, url_env, may_encrypt, sighting, seen };
        Self { hub: Rc::new(hub), listening: Vec::new(), paths: Vec::new() }
    }

    /// Takes connections for this server over the loopback interface.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn listen(&mut self, server: Server) -> io::Result<Via> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let via = Via::Inet(listener.local_addr()?);
        let hub = Rc::clone(&self.hub);
        self.listening.push(tokio::task::spawn_local(async move {
            let mut sessions = JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => begin(&mut sessions, Stream::Tcp(stream), &server, &hub),
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
        drop(local::remove(path));
        let listener = UnixListener::bind(path)?;
        self.paths.push(path.to_owned());
        let hub = Rc::clone(&self.hub);
        self.listening.push(tokio::task::spawn_local(async move {
            let mut sessions = JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => begin(&mut sessions, Stream::Unix(stream), &server, &hub),
                    Err(error) => pause(&error).await,
                }
            }
        }));
        Ok(Via::Unix(path.to_owned()))
    }

    /// What programs have tried so far.
    pub(crate) fn seen(&self) -> Seen {
        self.hub.seen.borrow().clone()
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

/// Sessions end with the listener's task.
fn begin(sessions: &mut JoinSet<()>, client: Stream, server: &Server, hub: &Rc<Hub>) {
    while sessions.try_join_next().is_some() {}
    let (server, hub) = (server.clone(), Rc::clone(hub));
    sessions.spawn_local(async move {
        if let Err(error) = session::carry(client, &server, &hub).await {
            tracing::debug!(%error, "a connection to the copy ended");
        }
    });
}

/// Out of descriptors, for example: others end meanwhile.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "taking a connection to the copy");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

impl Hub {
    fn refused(&self, client: &Stream, what: &str) {
        let text = format!("{} asked PostgreSQL for {what}", who(client));
        let refused = &mut self.seen.borrow_mut().refused;
        if !refused.contains(&text) {
            refused.push(text);
        }
    }

    fn opened(&self, client: &Stream, database: Option<String>) {
        let who = who(client);
        let url_env = &self.url_env;
        self.seen.borrow_mut().opened.push(match database {
            Some(database) => format!(
                "{who} opened database {database:?} over TLS instead of the copy: it must take its \
                 URL from {url_env}; the connection was ended"
            ),
            None => format!(
                "{who} opened an unknown database over TLS, which PostgreSQL does not show to the \
                 role in {url_env} (another role, or a pooler between): the connection was ended"
            ),
        });
    }
}

/// The process at the other end, as `python3 (pid 812)`.
fn who(client: &Stream) -> String {
    let found = match client {
        Stream::Tcp(stream) => stream.peer_addr().ok().and_then(process_at),
        // Halley has connected it.
        Stream::Unix(_) => None,
    };
    match found {
        Some(pid) => format!("{} (pid {pid})", proc::name(pid).unwrap_or_default()),
        None => "a program".to_owned(),
    }
}

fn process_at(address: SocketAddr) -> Option<i32> {
    let states = diag::IN_USE;
    let wanted =
        diag::Wanted { states: &states, local_port: Some(address.port()), remote_port: None };
    let same = |row: &diag::Row| row.local.ip().to_canonical() == address.ip().to_canonical();
    let inode = diag::rows(wanted).into_iter().find(same)?.inode;
    proc::all().into_iter().find(|pid| proc::socket_inodes(*pid).contains(&inode))
}

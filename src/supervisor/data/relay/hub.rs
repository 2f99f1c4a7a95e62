//! What all connections of a relay share: where they go, and what programs tried.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::keeper::protocol::LaunchUser;
use crate::os::{diag, local, proc};
use crate::supervisor::sockets::stream::Stream;
use crate::supervisor::spawn;

/// Where connections really go.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// The first of these that answers.
    Tcp(Vec<SocketAddr>),
    /// A socket; the server looks at the user that connects.
    Unix(PathBuf, Option<LaunchUser>),
}

impl Server {
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(addresses) => Stream::tcp(addresses.clone()).await,
            Self::Unix(path, user) => {
                let (path, user) = (path.clone(), user.clone());
                let connect = move || local::connect_as(&path, user.as_ref());
                let stream = spawn::lengthy(connect).await??;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(tokio::net::UnixStream::from_std(stream)?))
            }
        }
    }
}

/// What programs tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Programs, and what they were refused.
    pub(crate) refused: Vec<String>,
    /// Programs, and which database they opened that they must not open.
    pub(crate) opened: Vec<String>,
}

/// What all connections share.
pub(super) struct Hub {
    /// The variable that has the URL of the copy.
    pub(super) url_env: String,
    /// The product's name.
    product: &'static str,
    seen: RefCell<Seen>,
}

impl Hub {
    pub(super) fn new(url_env: &str, product: &'static str) -> Self {
        Self { url_env: url_env.to_owned(), product, seen: RefCell::default() }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    pub(super) fn refused(&self, client: &str, what: &str) {
        let text = format!("{client} asked {} for {what}", self.product);
        let refused = &mut self.seen.borrow_mut().refused;
        if !refused.contains(&text) {
            refused.push(text);
        }
    }

    /// By an address that is allowed.
    pub(super) fn reached(&self, who: &str, what: &str) {
        let url_env = &self.url_env;
        let text = format!(
            "{who} opened {what}, through an address in rehearse_connect: it must take its URL from \
             {url_env}; the connection was ended"
        );
        let opened = &mut self.seen.borrow_mut().opened;
        if !opened.contains(&text) {
            opened.push(text);
        }
    }

    pub(super) fn opened(&self, who: &str, database: Option<String>) {
        let url_env = &self.url_env;
        self.seen.borrow_mut().opened.push(match database {
            Some(database) => format!(
                "{who} opened database {database:?} over TLS instead of the copy: it must take its \
                 URL from {url_env}; the connection was ended"
            ),
            None => format!(
                "{who} opened an unknown database over TLS, which {} does not show to the role in \
                 {url_env} (another role, or a pooler between): the connection was ended",
                self.product
            ),
        });
    }
}

/// The process at the other end, as `python3 (pid 812)`.
pub(super) fn who(client: &Stream) -> String {
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

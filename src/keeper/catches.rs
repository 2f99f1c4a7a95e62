//! Programs under interception: whose `bind()` gets which kept socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use crate::os::intercept::{self, Call, Wanted, Wish};
use crate::os::launch::{Catch, CatchAt};

/// Calls of one program that are answered before the others have their turn.
const N_CALLS_A_ROUND: usize = 16;

/// The filters of all programs that run under one.
#[derive(Debug, Default)]
pub struct Catches(Vec<Watch>);

#[derive(Debug)]
struct Watch {
    filter: OwnedFd,
    catches: Vec<Catch>,
}

impl Catches {
    /// Answers for a new program from now on.
    pub fn add(&mut self, filter: OwnedFd, catches: Vec<Catch>) {
        self.0.push(Watch { filter, catches });
    }

    /// Filters, to be polled.
    pub fn filters(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|watch| watch.filter.as_fd())
    }

    /// Answers calls that wait, of each program a few in one round: one that binds without end keeps
    /// no other program waiting. Lets go of filters that no process runs under any more.
    pub fn answer(&mut self, kept: &BTreeMap<String, OwnedFd>) {
        self.0.retain(|watch| {
            for _ in 0..N_CALLS_A_ROUND {
                match intercept::waiting(&watch.filter) {
                    Ok(intercept::Waiting::Call) => watch.answer_one(kept),
                    Ok(intercept::Waiting::Nothing) => return true,
                    Ok(intercept::Waiting::Nobody) => return false,
                    Err(error) => {
                        tracing::error!(%error, "polling a filter");
                        return true;
                    }
                }
            }
            true
        });
    }
}

impl Watch {
    fn answer_one(&self, kept: &BTreeMap<String, OwnedFd>) {
        let call = match intercept::receive(&self.filter) {
            Ok(Some(call)) => call,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "receiving a bind"),
        };
        let answered = match &call.wish {
            Wish::Bind(fd, wanted) if self.try_put(&call, *fd, wanted, kept) => Ok(()),
            Wish::Unlink(path) if is_ours(&self.catches, path) => call.succeed(&self.filter),
            Wish::Bind(..) | Wish::Unlink(_) | Wish::Other => call.go_on(&self.filter),
        };
        if let Err(error) = answered {
            tracing::error!(pid = call.pid, %error, "answering a bind");
        }
    }

    /// Whether the program has one of ours now. What cannot be looked at goes on untouched: then
    /// the program learns from the kernel that the address is taken.
    fn try_put(
        &self,
        call: &Call,
        fd: RawFd,
        wanted: &Wanted,
        kept: &BTreeMap<String, OwnedFd>,
    ) -> bool {
        if !self.catches.iter().any(|catch| rank(&catch.at, wanted).is_some()) {
            return false;
        }
        let own = match call.own(fd) {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(pid = call.pid, %error, "a program's socket cannot be looked at");
                return false;
            }
        };
        let slot = best(&self.catches, wanted, own.is_stream).and_then(|name| kept.get(name));
        let Some(slot) = slot else { return false };
        match call.put(&self.filter, fd, &own, slot.as_fd()) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(pid = call.pid, %error, "handing a slot over");
                false
            }
        }
    }
}

fn is_ours(catches: &[Catch], path: &std::path::Path) -> bool {
    catches.iter().any(|catch| matches!(&catch.at, CatchAt::Unix(ours) if ours == path))
}

/// The name of the socket for this wish: the same address before the same family before the same
/// port. The host decides where a service listens, so a program's narrower or wider address is no
/// reason to let it listen beside us.
fn best<'a>(catches: &'a [Catch], wanted: &Wanted, is_stream: bool) -> Option<&'a str> {
    let fits = catches.iter().filter(|catch| catch.at.is_stream() == is_stream);
    let ranked = fits.filter_map(|catch| Some((rank(&catch.at, wanted)?, catch)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, catch)| catch.kept.as_str())
}

/// How well a listener fits, best first.
fn rank(at: &CatchAt, wanted: &Wanted) -> Option<u8> {
    match (at, wanted) {
        (CatchAt::Tcp(ours) | CatchAt::Udp(ours), Wanted::Inet(theirs)) => inet(*ours, *theirs),
        (CatchAt::Unix(ours), Wanted::Unix(theirs)) => (ours == theirs).then_some(0),
        _ => None,
    }
}

fn inet(ours: SocketAddr, theirs: SocketAddr) -> Option<u8> {
    let is_dual = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unspecified());
    match () {
        () if ours.port() != theirs.port() => None,
        () if ours.ip() == theirs.ip().to_canonical() => Some(0),
        () if ours.is_ipv4() == theirs.is_ipv4() => Some(1),
        () if is_dual(ours.ip()) => Some(2),
        () => Some(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(catches: &[&str], wanted: &str, expected: Option<usize>) {
        let catches: Vec<Catch> = catches
            .iter()
            .enumerate()
            .map(|(n, at)| Catch { at: at_of(at), kept: n.to_string() })
            .collect();
        let (wanted_at, is_stream) = match at_of(wanted) {
            CatchAt::Tcp(address) => (Wanted::Inet(address), true),
            CatchAt::Udp(address) => (Wanted::Inet(address), false),
            CatchAt::Unix(path) => (Wanted::Unix(path), true),
        };
        let found = best(&catches, &wanted_at, is_stream).map(str::to_owned);
        assert_eq!(found, expected.map(|n| n.to_string()), "{wanted}");
    }

    fn at_of(text: &str) -> CatchAt {
        match text.split_once(' ').unwrap() {
            ("tcp", address) => CatchAt::Tcp(address.parse().unwrap()),
            ("udp", address) => CatchAt::Udp(address.parse().unwrap()),
            (_, path) => CatchAt::Unix(path.into()),
        }
    }

    #[test]
    fn the_nearest_listener_of_the_port_is_handed_over() {
        let both = ["tcp 127.0.0.1:80", "tcp [::1]:80", "udp 0.0.0.0:80", "unix /run/a"];
        check(&both, "tcp 127.0.0.1:80", Some(0));
        check(&both, "tcp 0.0.0.0:80", Some(0));
        check(&both, "tcp [::]:80", Some(1));
        check(&both, "tcp [::ffff:127.0.0.1]:80", Some(0));
        check(&both, "udp [::]:80", Some(2));
        check(&both, "unix /run/a", Some(3));
        check(&both, "unix /run/b", None);
        check(&both, "tcp 127.0.0.1:81", None);
        check(&["tcp [::]:80"], "tcp 0.0.0.0:80", Some(0));
        check(&["tcp 0.0.0.0:80"], "tcp [::]:80", Some(0));
        check(&["tcp 0.0.0.0:80"], "udp 0.0.0.0:80", None);
    }
}

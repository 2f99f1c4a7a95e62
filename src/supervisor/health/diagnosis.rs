//! Why a process ended or does not answer, as far as its log and its descriptors show it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::config::model::Handoff;
use crate::core::ids::{GenerationId, ReleaseId};
use crate::core::ordered::Ordered as _;
use crate::keeper::protocol::End;
use crate::os::{listen, proc};
use crate::supervisor::processes::log_files;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance, LastEnd};
use crate::supervisor::sockets::backend_address::BackendAddress;

/// Lines of a failed candidate's log that an error shows.
const N_LINES: usize = 10;

/// How a process ended that should have lived, with its last lines. How is what the keeper reported:
/// the log is the program's, and may hold anything.
pub(crate) fn death(service: &Service, id: GenerationId, release: ReleaseId) -> String {
    let last = service.fleet.get(id).and_then(|generation| generation.last_end());
    tracing::debug!(generation = %id, ?last, "reporting a death");
    format!("{}{}", end_text(last), tail_text(service, release))
}

fn end_text(last: Option<LastEnd>) -> String {
    let Some(LastEnd { pid, end, .. }) = last else {
        return "process ended, how is unknown".to_owned();
    };
    let hint = match end {
        End::Exited(0) => "\nit went to the background: run it in the foreground",
        End::Exited(_) | End::Killed(_) | End::Unknown => "",
    };
    format!("process {pid} ended: {}{hint}", end.explained())
}

/// The last lines a generation wrote.
pub(crate) fn last_lines(service: &Rc<Service>, generation: &Generation) -> String {
    tail_text(service, generation.release)
}

fn tail_text(service: &Service, release: ReleaseId) -> String {
    let lines = log_files::tail(&service.logs.path(release), N_LINES + 5);
    let said: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.splitn(3, ' ').nth(2))
        .filter(|line| !line.starts_with("halley: "))
        .collect();
    let from = said.len().saturating_sub(N_LINES);
    if said.is_empty() {
        return String::new();
    }
    let lines = said[from..].join("\n  ");
    let config = service.config();
    let hint = advice(&lines, config.settings.handoff, config.runs_beside());
    format!("{hint}\nits last lines:\n  {lines}")
}

/// What to write in the configuration, when a program says what people stumble over first.
fn advice(lines: &str, handoff: Handoff, runs_beside: bool) -> &'static str {
    let lines = lines.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lines.contains(word));
    if handoff == Handoff::Inherit
        && says(&["address already in use", "eaddrinuse", "address in use"])
    {
        return "\nit binds its address by itself: write handoff = \"intercept\"";
    }
    let sealed = ["read-only file system", "erofs", "readonly database", "unable to open database"];
    if says(&sealed) {
        return "\nits tree is read-only: write writable = [\"tmp\"] for what goes with the release, \
                links = [\"db.sqlite3\"] for what is to stay (halley-sup help config)";
    }
    if says(&["another fpm instance"]) {
        return "\nit asks at its socket whether it runs already: leave handoff out, and write \
                env = { FPM_SOCKETS = \"/its/listen=3\" } (halley-sup help recipes)";
    }
    let once = [
        "already running",
        "already started",
        "another instance",
        "another process",
        "lock file",
        "lockfile",
        "not lock",
        "is locked",
        "pid file",
        "pidfile",
    ];
    if runs_beside && says(&once) {
        return "\nit allows one instance only: write strategy = \"hold\"";
    }
    ""
}

/// What can be seen from outside of why a candidate does not answer.
pub(crate) fn diagnose(service: &Rc<Service>, generation: &Generation) -> String {
    let mut hints = Vec::new();
    for instance in &generation.instances() {
        let Some(pid) = instance.pid() else { continue };
        let tree = proc::tree(pid);
        let inodes: BTreeSet<u64> =
            tree.iter().flat_map(|pid| proc::socket_inodes(*pid)).into_set();
        let (mut slots, mut n_queued) = (BTreeSet::new(), 0);
        for (listener, id) in service.slots.listeners().iter().zip(&instance.slots) {
            let Some(inode) = listener.fd(*id).and_then(|fd| listen::inode(fd).ok()) else {
                continue;
            };
            slots.insert(inode);
            n_queued += listener.state(*id).map_or(0, |state| state.n_queued);
            if !inodes.contains(&inode) {
                hints.push(not_taken(generation.settings.handoff, &listener.text()));
            }
        }
        let others: BTreeSet<u64> = inodes.difference(&slots).copied().into_set();
        for address in listen::listening(&others) {
            hints.extend(elsewhere(generation.settings.handoff, instance, address));
        }
        // One that has accepted what the probes brought has the socket, whatever it started besides.
        let inherits = generation.settings.handoff == Handoff::Inherit;
        if tree.len() > 1 && n_queued > 0 && inherits {
            hints.push(
                "\na wrapper started it: programs that check LISTEN_PID take the socket only \
                 when they are started with exec"
                    .to_owned(),
            );
        }
    }
    hints.dedup();
    hints.concat()
}

/// A program without the socket it was to have.
fn not_taken(handoff: Handoff, address: &str) -> String {
    match handoff {
        Handoff::Inherit => "\nit has closed the socket it was given (descriptor 3)".to_owned(),
        Handoff::Intercept => format!("\nit has not bound {address}"),
        // Its forwarder has the socket.
        Handoff::Port => String::new(),
    }
}

/// A program that listens at another address than the one it was given.
fn elsewhere(handoff: Handoff, instance: &Instance, address: SocketAddr) -> Option<String> {
    match (handoff, &instance.place) {
        (Handoff::Inherit, _) => Some(format!(
            "\nit listens on {address} instead of the socket it was given (descriptor 3, \
             LISTEN_FDS)"
        )),
        (Handoff::Intercept, _) => {
            Some(format!("\nit listens on {address}, which is no address of this service"))
        }
        (Handoff::Port, Some(BackendAddress::Port(port))) if address.port() == *port => None,
        (Handoff::Port, Some(place)) => {
            let (name, value) = place.variable();
            Some(format!("\nit listens on {address}, but {name}={value} is set"))
        }
        (Handoff::Port, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Tick;

    #[test]
    fn what_people_stumble_over_first_is_answered_with_what_to_write() {
        for (lines, handoff, expected) in [
            ("OSError: [Errno 98] Address already in use", Handoff::Inherit, "intercept"),
            ("Error: listen EADDRINUSE: :::3000", Handoff::Inherit, "intercept"),
            ("bind: address already in use", Handoff::Port, ""),
            ("pid file says it is already running", Handoff::Intercept, "hold"),
            ("FATAL: could not lock /data/LOCK", Handoff::Inherit, "hold"),
            ("OSError: [Errno 30] Read-only file system: 'state.txt'", Handoff::Port, "writable ="),
            ("sqlite3.OperationalError: unable to open database file", Handoff::Port, "links ="),
            (
                "ERROR: Another FPM instance seems to already listen on /run/php.sock",
                Handoff::Intercept,
                "FPM_SOCKETS",
            ),
            ("cannot open config", Handoff::Inherit, ""),
        ] {
            let said = advice(lines, handoff, true);
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{lines}");
        }
        assert_eq!(advice("already running", Handoff::Port, false), "");
    }

    #[test]
    fn an_end_is_what_the_keeper_reported() {
        let of = |end| end_text(Some(LastEnd { pid: 7, end, at: Tick(0) }));
        assert_eq!(of(End::Exited(3)), "process 7 ended: exit 3");
        assert_eq!(of(End::Killed(6)), "process 7 ended: killed by SIGABRT (it gave up by itself)");
        assert_eq!(of(End::Unknown), "process 7 ended: unknown");
        assert!(
            of(End::Exited(0)).starts_with("process 7 ended: exit 0\nit went to the background")
        );
        assert_eq!(end_text(None), "process ended, how is unknown");
    }
}

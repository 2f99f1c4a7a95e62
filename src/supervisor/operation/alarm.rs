//! Words for people: what happened, why, what is true now, what to do next.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::api::Trouble;
use crate::config::model::Handoff;
use crate::core::ids::{Generation, ReleaseId};
use crate::core::notice::Notice;
use crate::core::time::Tick;
use crate::os::{listen, proc};
use crate::store::state::StateError;
use crate::supervisor::notify::message::Message;
use crate::supervisor::operation::context::Job;
use crate::supervisor::processes::log_files;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Crew, Instance};
use crate::supervisor::service::notices;
use crate::supervisor::sockets::backend_address::Place;

/// Lines of a failed candidate's log that an error shows.
const N_LINES: usize = 10;

/// A size for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// What is true for the user's users now.
pub fn still(service: &Service) -> String {
    match (service.serving(), service.last_good()) {
        (Some(serving), _) => format!("release {serving} is serving"),
        (None, Some(good)) => {
            format!("nothing is serving; release {good} is started again, callers wait")
        }
        (None, None) => "nothing is serving, as before: there is no good release yet".to_owned(),
    }
}

/// How a process ended that should have lived, with its last lines.
pub fn death(service: &Service, generation: Generation, release: ReleaseId) -> String {
    let lines = log_files::tail(&service.logs.path(release), 200);
    let own: Vec<&String> = lines.iter().collect();
    let ended = own.iter().rev().find_map(|line| line.split_once("halley: process "));
    let how = ended.map_or("ended".to_owned(), |(_, text)| text.to_owned());
    let hint = if how.contains("exit 0") {
        "\nit left the foreground: run it so that its first process stays"
    } else {
        ""
    };
    let tail = tail_text(service, release);
    tracing::debug!(%generation, "reporting a death");
    format!("process {how}{hint}{tail}")
}

/// The last lines a generation wrote.
pub fn last_lines(service: &Rc<Service>, crew: &Crew) -> String {
    tail_text(service, crew.release)
}

/// A span of time, for people.
pub fn seconds(from: Tick, to: Tick) -> String {
    let ms = to.since_ms(from);
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
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
    format!("\nits last lines:\n  {}", said[from..].join("\n  "))
}

/// What can be seen from outside of why a candidate does not answer.
pub fn diagnose(service: &Rc<Service>, crew: &Crew) -> String {
    let mut hints = Vec::new();
    for instance in &crew.instances() {
        let Some(pid) = instance.pid() else { continue };
        let tree = proc::tree(pid);
        let inodes: BTreeSet<u64> = tree.iter().flat_map(|pid| proc::socket_inodes(*pid)).collect();
        let mut slots = BTreeSet::new();
        for (listener, id) in service.slots.listeners().iter().zip(&instance.slots) {
            let Some(inode) = listener.fd(*id).and_then(|fd| listen::inode(fd).ok()) else {
                continue;
            };
            slots.insert(inode);
            if !inodes.contains(&inode) {
                hints.push(not_taken(crew.settings.handoff, &listener.text()));
            }
        }
        let others: BTreeSet<u64> = inodes.difference(&slots).copied().collect();
        for address in listen::listening(&others) {
            hints.extend(elsewhere(crew.settings.handoff, instance, address));
        }
        let inherits = crew.settings.handoff == Handoff::Inherit;
        if tree.len() > 1 && !slots.is_empty() && inherits {
            hints.push(
                "\na wrapper is in between: programs that check LISTEN_PID take the socket only \
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

/// A program that listens where nobody sent it.
fn elsewhere(handoff: Handoff, instance: &Instance, address: SocketAddr) -> Option<String> {
    match (handoff, &instance.place) {
        (Handoff::Inherit, _) => Some(format!(
            "\nit listens on {address} instead of the socket it was given (descriptor 3, \
             LISTEN_FDS)"
        )),
        (Handoff::Intercept, _) => {
            Some(format!("\nit listens on {address}, which is no address of this service"))
        }
        (Handoff::Port, Some(Place::Port(port))) if address.port() == *port => None,
        (Handoff::Port, Some(place)) => {
            let (name, value) = place.variable();
            Some(format!("\nit listens on {address} and was told {name}={value}"))
        }
        (Handoff::Port, None) => None,
    }
}

/// A rollback failed: loud, and until the next commit.
pub fn raise_alarm(service: &Rc<Service>, job: &Job) {
    if service.state.borrow().alarm.is_some() {
        return;
    }
    let alarm = alarm(service, job);
    tracing::error!(service = %service.name, what = alarm.what, why = alarm.why, "ROLLBACK FAILED");
    let running = service.operation.borrow().clone();
    if let Some(running) = running {
        let message = Message::of_operation(service, &running, &alarm);
        notices::tell(service, Notice::RollbackFailed, message);
    }
    let saved: Result<(), StateError> = service.save(|state| state.alarm = Some(alarm));
    if let Err(error) = saved {
        tracing::error!(service = %service.name, %error, "saving the alarm");
    }
}

/// The alarm's four lines.
pub fn alarm(service: &Service, job: &Job) -> Trouble {
    let name = &service.name;
    let mut why = job.why.clone();
    for warning in &job.warnings {
        why.push('\n');
        why.push_str(warning);
    }
    Trouble {
        what: format!("{name}: the rollback failed, operation {}", job.op),
        why,
        still: still(service),
        next: vec![
            format!("halley-sup status {name}"),
            format!("halley-sup logs {name}"),
            format!("halley-sup rollback {name} --to RELEASE"),
            format!("halley-sup release {name} SOURCE"),
        ],
        exit: 30,
    }
}

#[cfg(test)]
mod tests {
    use crate::supervisor::operation::alarm::size;

    #[test]
    fn sizes_have_the_unit_people_use() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (18_200_000, "18.2 MB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}

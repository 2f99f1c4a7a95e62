//! The verb `logs`: the lines that processes of services wrote.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::watch;

use crate::api::logs::Args;
use crate::api::{Event, Outcome, Trouble};
use crate::config::pattern::Pattern;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::outcome::Word;
use crate::os::clock;
use crate::supervisor::control::client::Client;
use crate::supervisor::processes::log_lines::{Line, Lines, Wanted};
use crate::supervisor::service::outcome::outcome;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::service::{Service, refusal};
use crate::supervisor::spawn;

/// A log that is shown.
struct Shown {
    service: Rc<Service>,
    release: ReleaseId,
    path: PathBuf,
}

impl Shown {
    /// The log of a release, else of the serving one. `None`: there is none.
    fn of(service: Rc<Service>, release: Option<u64>) -> Result<Self, Rc<Service>> {
        let release = release.map(ReleaseId).or(service.serving()).or(service.durable.last_good());
        let path = release.map(|release| (release, service.logs.path(release)));
        match path.filter(|(_, path)| path.is_file()) {
            Some((release, path)) => Ok(Self { service, release, path }),
            None => Err(service),
        }
    }
}

/// Sends the last lines, and with `follow` each new line until the client is gone.
///
/// # Errors
/// When a filter cannot be used, or a service that is named has no such log, or none has one.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let wanted = wanted(&args)?;
    let mut warnings = Vec::new();
    let shown = shown(stack, &args, &mut warnings)?;
    let names: Vec<String> = shown.iter().map(|shown| shown.service.name.to_string()).collect();
    // Before anything is read: what is written meanwhile is seen afterwards.
    let mut grew: Vec<watch::Receiver<u64>> = Vec::new();
    for Shown { service, release, .. } in shown.iter().filter(|_| args.follow) {
        grew.extend(service.logs.open_writer(*release).map(|writer| writer.borrow().watch()));
    }
    if shown.len() > 1 && !client.tell(&Event::Logs { services: names.clone() }).await {
        return Ok(());
    }
    let paths: Vec<PathBuf> = shown.iter().map(|shown| shown.path.clone()).collect();
    let opening = spawn::lengthy(move || with_piece(Lines::open(&paths, wanted)));
    let (mut lines, mut piece) = opening.await.map_err(|error| unread(&error))?;
    loop {
        let is_all = piece.is_empty();
        for Line { log, text } in piece {
            let (service, release) = (names[log].clone(), shown[log].release.0);
            if !client.tell(&Event::Log { service, release, line: text }).await {
                return Ok(());
            }
        }
        if is_all {
            tokio::select! {
                is_more = grown(&mut grew) => if !is_more { break },
                () = client.gone() => return Ok(()),
            }
        }
        let reading = spawn::lengthy(move || with_piece(lines));
        (lines, piece) = reading.await.map_err(|error| unread(&error))?;
    }
    let read = match shown.as_slice() {
        [one] => outcome(&one.service, Word::Read, 0),
        _ => Outcome::new(Word::Read.into(), &names.join(", "), 0),
    };
    client.tell(&Event::Result(Box::new(Outcome { warnings, ..read }))).await;
    Ok(())
}

fn with_piece(mut lines: Lines) -> (Lines, Vec<Line>) {
    let piece = lines.next_piece();
    (lines, piece)
}

/// Resolves when one of the logs has grown. `false`: nobody writes to any of them.
async fn grown(grew: &mut Vec<watch::Receiver<u64>>) -> bool {
    while !grew.is_empty() {
        let mut changes: Vec<Pin<Box<dyn Future<Output = bool> + '_>>> = Vec::new();
        for one in &mut *grew {
            changes.push(Box::pin(async { one.changed().await.is_ok() }));
        }
        let (at, has_grown) = poll_fn(|context| {
            for (at, change) in changes.iter_mut().enumerate() {
                if let Poll::Ready(has_grown) = change.as_mut().poll(context) {
                    return Poll::Ready((at, has_grown));
                }
            }
            Poll::Pending
        })
        .await;
        drop(changes);
        if has_grown {
            return true;
        }
        grew.remove(at);
    }
    false
}

/// Which lines.
fn wanted(args: &Args) -> Result<Wanted, Trouble> {
    let since = |since: &String| {
        clock::earlier(since, 0)
            .ok_or_else(|| refused(format!("since: {since:?} is not an RFC 3339 time")))
    };
    let pattern =
        |grep: &String| Pattern::anywhere(grep).map_err(|error| refused(format!("grep: {error}")));
    Ok(Wanted {
        since: args.since.as_ref().map(since).transpose()?,
        pattern: args.grep.as_ref().map(pattern).transpose()?,
        n_last: args.tail,
        follow: args.follow,
    })
}

/// Whose logs, in the order of the services. A service that is named has one, else it is an error.
fn shown(stack: &Stack, args: &Args, warnings: &mut Vec<String>) -> Result<Vec<Shown>, Trouble> {
    let named: Vec<&String> = args.service.iter().chain(&args.services).collect();
    for name in &named {
        stack.known(name)?;
    }
    let mut names = stack.names();
    names.retain(|known| named.is_empty() || named.iter().any(|name| *name == known.as_str()));
    if args.release.is_some() && names.len() > 1 {
        return Err(refused("a release is one of one service; several are to be shown".to_owned()));
    }
    let mut shown = Vec::new();
    for name in names {
        let service = match stack.find(name.as_str()) {
            Ok(service) => service,
            Err(trouble) if named.is_empty() => {
                warnings.push(format!("{}: {}", trouble.what, trouble.why));
                continue;
            }
            Err(trouble) => return Err(trouble),
        };
        match Shown::of(service, args.release) {
            Ok(one) => shown.push(one),
            Err(_) if named.is_empty() && args.release.is_none() => {}
            Err(service) => return Err(no_log(&service)),
        }
    }
    if shown.is_empty() {
        warnings.push("no service has a log yet".to_owned());
        return Err(refused(warnings.join("\n")));
    }
    Ok(shown)
}

fn no_log(service: &Service) -> Trouble {
    let what = format!("{}: no log can be shown", service.name);
    let why = "there is no log of that release";
    Trouble { what, ..refusal::refusal(service, "", why, Exit::Usage, &["releases"]) }
}

fn refused(why: String) -> Trouble {
    Trouble {
        what: "no log can be shown".to_owned(),
        why,
        still: "nothing was changed".to_owned(),
        next: ["status", "logs --help"].map(|verb| format!("halley-sup {verb}")).into(),
        exit: Exit::Usage.code(),
    }
}

fn unread(error: &std::io::Error) -> Trouble {
    let why = format!("the logs cannot be read: {error}");
    Trouble { exit: Exit::Internal.code(), ..refused(why) }
}

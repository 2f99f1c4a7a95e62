//! How a new release takes over: strategy, its numbers, and what does not go together.

use std::time::Duration;

use super::model::{Forward, Handoff, Listen, Service, SocketFile, Strategy};
use super::raw::Section;

pub(super) const FORWARD_KEYS: &[&str] = &["proxy_protocol", "max_clients"];

/// Default of `max_gap`: how long connections wait for a candidate at most.
pub(super) const MAX_GAP: Duration = Duration::from_secs(10);

/// A part of the whole, in hundredths of a percent.
const WHOLE: u16 = 10_000;

/// The strategy, with the steps of a canary.
pub(super) fn strategy(section: &Section<'_>) -> Strategy {
    #[derive(Clone, Copy)]
    enum Word {
        Overlap,
        Canary,
        Hold,
        Replace,
    }
    let words = [
        ("overlap", Word::Overlap),
        ("canary", Word::Canary),
        ("hold", Word::Hold),
        ("replace", Word::Replace),
    ];
    let is_called = section.has("listen") || section.has("proxy");
    // Two workers at once must be configured explicitly; two servers at once is the default.
    let default = if is_called { Word::Overlap } else { Word::Replace };
    let word = section.word("strategy", &words).unwrap_or(default);
    if !matches!(word, Word::Canary) && section.has("canary") {
        section.problem_with_hint(
            "canary",
            "is only for strategy = \"canary\"",
            "add strategy = \"canary\"",
        );
    }
    if !matches!(word, Word::Hold) && section.has("max_gap") {
        section.problem_with_hint(
            "max_gap",
            "is only for strategy = \"hold\"",
            "add strategy = \"hold\"",
        );
    }
    match word {
        Word::Overlap => Strategy::Overlap,
        Word::Canary => Strategy::Canary(steps(section)),
        Word::Hold => Strategy::Hold,
        Word::Replace => Strategy::Replace,
    }
}

/// The steps before the last one, which is the whole.
fn steps(section: &Section<'_>) -> Vec<u16> {
    let Some(texts) = section.texts("canary") else {
        if !section.has("canary") {
            let hint = "write canary = [\"5%\", \"25%\", \"100%\"]";
            section.problem_with_hint("strategy", "canary needs its steps", hint);
        }
        return Vec::new();
    };
    let mut steps: Vec<u16> = Vec::new();
    for text in &texts {
        let problem = |message: String| {
            section.report().add(text.line, &section.path("canary"), message);
        };
        match percent(&text.value) {
            None => problem(format!("{:?} is not a share; write \"5%\" or \"0.5%\"", text.value)),
            Some(step) if steps.last().is_some_and(|last| step <= *last) => {
                problem(format!("{} is not more than the step before it", text.value));
            }
            Some(step) => steps.push(step),
        }
    }
    if steps.len() == texts.len() && steps.last() != Some(&WHOLE) {
        let message = match texts.last() {
            Some(last) => format!("ends with {}, not with 100%", last.value),
            None => "has no steps".to_owned(),
        };
        let hint = "steps are shares of all connections, each on its own, not parts of a sum";
        section.problem_with_hint("canary", message, hint);
    }
    if steps.len() > 32 {
        section.problem("canary", "has more than 32 steps");
    }
    steps.pop();
    steps
}

/// `5%` or `0.25%`, more than nothing and not more than the whole.
fn percent(text: &str) -> Option<u16> {
    let (whole, part) = match text.strip_suffix('%')?.split_once('.') {
        Some((whole, part)) if (1..=2).contains(&part.len()) => (whole, format!("{part:0<2}")),
        Some(_) => return None,
        None => (text.strip_suffix('%')?, "00".to_owned()),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(&part) {
        return None;
    }
    let share = whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)?;
    (1..=WHOLE).contains(&share).then_some(share)
}

/// Mode and owner of unix sockets.
pub(super) fn socket_file(section: &Section<'_>) -> SocketFile {
    let mut file = SocketFile { mode: 0o660, user: None, group: None };
    if let Some(text) = section.text("socket_mode") {
        let mode = u32::from_str_radix(&text.value, 8).ok().filter(|mode| *mode <= 0o777);
        match mode {
            Some(mode) => file.mode = mode,
            None => section.problem_with_hint(
                "socket_mode",
                format!("{:?} is not a mode", text.value),
                "write \"0660\"",
            ),
        }
    }
    if let Some(text) = section.text("socket_owner") {
        let (user, group) = match text.value.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text.value.as_str(), None),
        };
        let known = |is_known: bool, what: &str, name: &str| {
            if !is_known {
                section.problem("socket_owner", format!("there is no {what} {name:?}"));
            }
        };
        let user_known = matches!(nix::unistd::User::from_name(user), Ok(Some(_)));
        known(user.is_empty() || user_known, "user", user);
        if let Some(group) = group {
            let group_known = matches!(nix::unistd::Group::from_name(group), Ok(Some(_)));
            known(group_known, "group", group);
        }
        file.user = Some(user.to_owned()).filter(|user| !user.is_empty());
        file.group = group.map(str::to_owned);
    }
    file
}

/// How connections are passed on.
pub(super) fn forward(section: &Section<'_>) -> Forward {
    let Some(table) = section.section("forward", FORWARD_KEYS) else {
        return Forward::default();
    };
    Forward {
        proxy_protocol: table.flag("proxy_protocol").is_some(),
        max_clients: table.number("max_clients", 1, 1_000_000),
    }
}

/// What does not go together.
pub(super) fn check(section: &Section<'_>, service: &Service) {
    let has = |kind: fn(&Listen) -> bool| service.listen.iter().any(kind);
    let (udp, unix) =
        (has(|listen| matches!(listen, Listen::Udp(_))), has(|l| matches!(l, Listen::Unix(_))));
    let streams = has(|listen| !matches!(listen, Listen::Udp(_)));
    let handoff = service.settings.handoff;
    let problem = |key: &str, message: &str, hint: &str| {
        section.problem_with_hint(key, message, hint);
    };
    if handoff == Handoff::Port {
        if udp {
            problem("listen", "udp cannot be forwarded to a port", "use handoff = \"intercept\"");
        }
        if !section.has("listen") && !section.has("proxy") {
            let hint = "give it an address in listen, or a [proxy]";
            problem("handoff", "port needs an address to forward from", hint);
        }
    } else {
        if section.has("proxy") {
            let hint = "a proxy needs handoff = \"port\": each instance has an address of its own";
            problem("proxy", "is only for handoff = \"port\"", hint);
        }
        if section.has("forward") {
            problem("forward", "is only for handoff = \"port\"", "add handoff = \"port\"");
        }
        if handoff == Handoff::Intercept && !section.has("listen") {
            problem("handoff", "intercept needs an address", "add listen");
        }
    }
    if section.has("proxy") && section.has("listen") {
        let message = "cannot be combined with proxy";
        problem("listen", message, "leave listen out: the proxy owns the address");
    }
    if section.has("proxy") && section.has("forward") {
        problem("forward", "has no effect", "the proxy forwards connections; leave it out");
    }
    if !unix && (section.has("socket_mode") || section.has("socket_owner")) {
        let key = if section.has("socket_mode") { "socket_mode" } else { "socket_owner" };
        problem(key, "is only for unix sockets", "listen has none; leave it out");
    }
    strategies(section, service, streams, udp, unix);
}

fn strategies(section: &Section<'_>, service: &Service, streams: bool, udp: bool, unix: bool) {
    let is_called = streams || udp || section.has("proxy");
    let problem = |message: &str, hint: &str| section.problem_with_hint("strategy", message, hint);
    match &service.strategy {
        Strategy::Overlap => {}
        Strategy::Canary(_) if section.has("proxy") => {
            problem("halley-sup cannot split the proxy's connections into shares", "use overlap");
        }
        Strategy::Canary(_) if unix => {
            problem(
                "connections to a unix socket cannot be split into shares",
                "use overlap, or a tcp:// address",
            );
        }
        Strategy::Canary(_) if !is_called => problem("the service has no listener", "use replace"),
        Strategy::Canary(_) => {}
        Strategy::Hold if section.has("proxy") => {
            problem("connections can wait in halley-sup's own queue only", "use listen, not proxy");
        }
        Strategy::Hold if udp => {
            problem("datagrams cannot wait in a queue", "use overlap, or tcp://");
        }
        Strategy::Hold if !streams => problem("the service has no listener", "use replace"),
        Strategy::Hold => {
            let stop = service.settings.stop.timeout;
            if section.has("max_gap") && stop >= service.max_gap {
                let hint = "make stop.timeout shorter: the old one may take that long to stop";
                section.problem_with_hint("max_gap", "is not longer than stop.timeout", hint);
            }
        }
        Strategy::Replace if is_called => {
            problem(
                "new connections would be refused meanwhile",
                "use hold: they wait in the queue",
            );
        }
        Strategy::Replace => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_to_a_hundredth_of_a_percent() {
        for (text, share) in [
            ("5%", Some(500)),
            ("100%", Some(10_000)),
            ("0.5%", Some(50)),
            ("12.34%", Some(1234)),
            ("0%", None),
            ("101%", None),
            ("5", None),
            ("-5%", None),
            ("%", None),
            (".5%", None),
            ("1.234%", None),
        ] {
            assert_eq!(percent(text), share, "{text}");
        }
    }
}

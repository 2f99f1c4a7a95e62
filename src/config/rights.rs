//! What of a service's settings needs rights that a user has not got. Halley may run as another user than
//! whoever checks, so this is said and refuses nothing.

use crate::config::model::Service;
use crate::os::limits;

/// Real-time class of `ionice`, in its place of the value.
const REALTIME: u32 = 1 << 13;

/// Each in a sentence, for a Halley that runs as the user that asks; none for root.
pub(super) fn warnings(service: &Service) -> Vec<String> {
    let own = nix::unistd::geteuid();
    if own.is_root() {
        return Vec::new();
    }
    let settings = &service.settings;
    let limits = &settings.limits;
    let mut needs = Vec::new();
    let own_name = nix::unistd::User::from_uid(own).ok().flatten().map(|user| user.name);
    if settings.user.is_some() && settings.user != own_name {
        needs.push(("user", "another user than Halley's own".to_owned()));
    }
    if settings.group.is_some() || !settings.groups.is_empty() {
        needs.push(("group", "a group".to_owned()));
    }
    if let Some(nice) = limits.nice.filter(|nice| *nice < limits::least_nice()) {
        needs.push(("limits.nice", format!("{nice}, before others,")));
    }
    if limits.io_priority.is_some_and(|value| value & !7 == REALTIME) {
        needs.push(("limits.ionice", "the realtime class".to_owned()));
    }
    if limits.oom_score_adj.is_some_and(|score| score < 0) {
        needs.push(("limits.oom_score_adj", "less than 0".to_owned()));
    }
    if limits.capabilities.is_some_and(|kept| kept != 0) {
        needs.push(("limits.capabilities", "to keep any".to_owned()));
    }
    let above = limits.resources.iter().filter_map(|(name, most)| {
        let hard = limits::hard_limit(name).filter(|hard| most > hard)?;
        Some((name, hard))
    });
    let above: Vec<String> =
        above.map(|(name, hard)| format!("limits.{name}: above the hard limit, {hard},")).collect();
    let needs = needs.iter().map(|(key, what)| format!("{key}: {what}"));
    let name = &service.name;
    let all = needs.chain(above);
    all.map(|need| {
        format!("service.{name}.{need} needs root: a halley-sup run of user {own} starts nothing")
    })
    .collect()
}

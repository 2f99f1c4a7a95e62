//! What the watched processes hold, compared with their bounds and the processes beside them.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::config::bake::Signals;
use crate::core::analysis::growth::{Bound, Growth, Over};
use crate::core::analysis::signal::Name;
use crate::core::health::Sample;
use crate::core::ids::InstanceIndex;
use crate::os::usage::{self, Files, Usage};
use crate::supervisor::bake::finding::Finding;
use crate::supervisor::service::instances::Generation;
use crate::text::{count, size};

/// A process that uses more than this share of its open-file limit will soon refuse connections.
const FILES_PERCENT_MAX: u64 = 90;

/// The bounds of one generation's processes, and what they held at first.
#[derive(Debug)]
pub(crate) struct Resources {
    generation: Rc<Generation>,
    bounds: Vec<(Name, Vec<Bound>)>,
    /// By place and process id: a process that was started again begins anew.
    growths: BTreeMap<(InstanceIndex, i32, Name), Growth>,
}

/// What one process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Its place.
    pub index: InstanceIndex,
    /// Its process id.
    pub pid: i32,
    /// What it holds.
    pub usage: Usage,
}

/// The bounds that are set.
pub(crate) fn bounds(signals: &Signals) -> Vec<(Name, Vec<Bound>)> {
    let more = |n: Option<u32>| n.map(|n| Bound::More(u64::from(n))).into_iter().collect();
    let most = signals.max_rss_bytes.map(Bound::AtMost);
    let growth = signals.max_rss_growth.map(|growth| growth.bound());
    let all = [
        (Name::Memory, most.into_iter().chain(growth).collect::<Vec<_>>()),
        (Name::Descriptors, more(signals.max_fd_growth)),
        (Name::Threads, more(signals.max_thread_growth)),
    ];
    all.into_iter().filter(|(_, bounds)| !bounds.is_empty()).collect()
}

impl Resources {
    /// Of a generation, with these bounds.
    pub(crate) fn new(generation: &Rc<Generation>, bounds: Vec<(Name, Vec<Bound>)>) -> Self {
        Self { generation: Rc::clone(generation), bounds, growths: BTreeMap::new() }
    }

    /// What its processes hold now.
    pub(crate) fn held(&self) -> Vec<Held> {
        let instances = self.generation.instances();
        let running: Vec<_> = instances.iter().filter_map(|i| Some((i.index, i.pid()?))).collect();
        let pids: Vec<i32> = running.iter().map(|(_, pid)| *pid).collect();
        let all = running.into_iter().zip(usage::of_trees(&pids));
        all.map(|((index, pid), usage)| Held { index, pid, usage }).collect()
    }

    /// Compares usage with the bounds: for each bound, whether a process is over it, and which.
    pub(crate) fn judge(&mut self, held: &[Held]) -> Vec<(Name, Finding)> {
        let mut findings = Vec::new();
        for (name, bounds) in &self.bounds {
            let mut finding = Finding::good();
            for one in held {
                let Some(value) = value(*name, &one.usage) else {
                    let text = format!("instance {}: not readable", one.index);
                    finding = Finding::new(Sample::Unclear, text);
                    continue;
                };
                let key = (one.index, one.pid, *name);
                let growth = self.growths.entry(key).or_insert_with(|| Growth::new(bounds.clone()));
                if let Some(over) = growth.observe(value) {
                    let who = format!("release {} instance {}", self.generation.release, one.index);
                    finding =
                        Finding::new(Sample::Bad, format!("{who}: {}", over_text(*name, over)));
                    break;
                }
            }
            findings.push((*name, finding));
        }
        findings
    }

    /// Whether a process is about to reach its open-file limit.
    pub(crate) fn near_limit(&self, held: &[Held]) -> Finding {
        let near = |files: &Files| files.n_open * 100 > files.limit * FILES_PERCENT_MAX;
        let found = held.iter().find_map(|one| Some((one, one.usage.fullest.filter(near)?)));
        let Some((one, Files { n_open, limit })) = found else { return Finding::good() };
        let who = format!("release {} instance {}", self.generation.release, one.index);
        let text = format!("{who} has {}, its limit is {limit}", count(n_open, "open file"));
        Finding::new(Sample::Bad, text)
    }
}

fn value(name: Name, usage: &Usage) -> Option<u64> {
    match name {
        Name::Memory => Some(usage.rss_bytes),
        Name::Descriptors => usage.n_fds,
        _ => Some(usage.n_threads),
    }
}

fn over_text(name: Name, over: Over) -> String {
    let unit = |n: u64| if name == Name::Memory { size(n) } else { n.to_string() };
    let Over { bound, base, value } = over;
    let bound = match bound {
        Bound::AtMost(limit) => return format!("{}, limit {}", unit(value), unit(limit)),
        Bound::More(more) => unit(more),
        Bound::MorePercent(percent) => format!("{percent}%"),
    };
    let grown = unit(value.saturating_sub(base));
    format!("{} after {}, {grown} more, limit {bound}", unit(value), unit(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_says_its_numbers() {
        for (name, bound, text) in [
            (Name::Memory, Bound::MorePercent(50), "3.0 MB after 1.0 MB, 2.0 MB more, limit 50%"),
            (Name::Memory, Bound::AtMost(2_000_000), "3.0 MB, limit 2.0 MB"),
            (Name::Threads, Bound::More(5), "3000000 after 1000000, 2000000 more, limit 5"),
        ] {
            let over = Over { bound, base: 1_000_000, value: 3_000_000 };
            assert_eq!(over_text(name, over), text);
        }
    }
}

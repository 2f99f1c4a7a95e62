//! Every path of the disk layout, in one place.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::ids::{GenerationId, InstanceIndex, OpId, ReleaseId, ServiceName, SetId};
use crate::os::fs;

/// The paths below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    /// Where `run/` of each service is, when nothing can be written in the root: what is there is of
    /// use for as long as processes run.
    refuge: Option<PathBuf>,
}

impl Layout {
    /// The layout below this root.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let refuge = fs::is_read_only(root).then(|| fs::refuge(root));
        Self { root: root.to_owned(), refuge }
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock of the one Halley that works here. It never needs removing by hand.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What runs, for a Halley that comes when this one was killed altogether.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.root.join("running.ndjson")
    }

    /// The configuration as it was last good.
    #[must_use]
    pub fn last_config(&self) -> PathBuf {
        self.root.join("last-config.json")
    }

    /// Where a keeper that stands in for a killed one hands over to the next.
    #[must_use]
    pub fn handover(&self) -> PathBuf {
        self.root.join("handover.sock")
    }

    /// The history of finished operations: user, action, time, outcome.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join("history.ndjson")
    }

    /// Notifications that are not delivered yet.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    /// The journals of sets.
    #[must_use]
    pub fn sets(&self) -> PathBuf {
        self.root.join("sets")
    }

    /// One set's directory.
    #[must_use]
    pub fn set(&self, set: SetId) -> PathBuf {
        numbered(&self.sets(), set.0)
    }

    /// One service's paths.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> ServiceLayout {
        let dir = self.root.join(name.as_str());
        let refuge = self.refuge.as_ref().map(|refuge| refuge.join(name.as_str()));
        ServiceLayout { run: refuge.unwrap_or_else(|| dir.join("run")), dir }
    }
}

/// The paths of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLayout {
    dir: PathBuf,
    run: PathBuf,
}

/// No directory of ours has such a number: there is always a next one.
const NUMBERS_END: u64 = 1 << 48;

impl ServiceLayout {
    /// The service's own directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Present from the notification that the service is degraded until the one that it has
    /// recovered.
    #[must_use]
    pub fn degraded(&self) -> PathBuf {
        self.run().join("degraded")
    }

    /// The symlink for people and static files; processes start from the resolved path.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.dir.join("current")
    }

    /// The sealed trees.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.dir.join("releases")
    }

    /// One sealed tree.
    #[must_use]
    pub fn release(&self, release: ReleaseId) -> PathBuf {
        self.releases().join(release.to_string())
    }

    /// What is known about the releases.
    #[must_use]
    pub fn metas(&self) -> PathBuf {
        self.dir.join("meta")
    }

    /// What is known about one release: manifest, settings, verdict, hashes.
    #[must_use]
    pub fn meta(&self, release: ReleaseId) -> PathBuf {
        self.metas().join(release.to_string())
    }

    /// Trees on their way in; always deletable at start.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.dir.join("staging")
    }

    /// Artifacts on their way in; always deletable at start.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.dir.join("incoming")
    }

    /// What releases share and may write.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }

    /// What one release may write beside `shared/`.
    #[must_use]
    pub fn writable(&self, release: ReleaseId) -> PathBuf {
        self.dir.join("writable").join(release.to_string())
    }

    /// Sockets of running processes.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.run.clone()
    }

    /// Sockets of what stands before a database server in a rehearsal.
    #[must_use]
    pub fn relay(&self) -> PathBuf {
        self.run().join("relay")
    }

    /// Sockets of instances that are given their own path.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.run().join("sockets")
    }

    /// The socket of one instance.
    #[must_use]
    pub fn own_socket(&self, generation: GenerationId, index: InstanceIndex) -> PathBuf {
        self.sockets().join(format!("{generation}.{index}.sock"))
    }

    /// The socket programs say `READY=1` on.
    #[must_use]
    pub fn notify_socket(&self) -> PathBuf {
        self.run().join("notify.sock")
    }

    /// Where commands that run once write their output.
    #[must_use]
    pub fn oneshots(&self) -> PathBuf {
        self.run().join("oneshot")
    }

    /// Backups, each in a directory of its own.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.dir.join("backups")
    }

    /// Copies of the data that are tried out; always deletable at start.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    /// Log files, one a release.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The journals.
    #[must_use]
    pub fn ops(&self) -> PathBuf {
        self.dir.join("ops")
    }

    /// One operation's directory.
    #[must_use]
    pub fn op(&self, op: OpId) -> PathBuf {
        numbered(&self.ops(), op.0)
    }

    /// What an operation's commands printed.
    #[must_use]
    pub fn output(&self, op: OpId) -> PathBuf {
        self.op(op).join("output.log")
    }

    /// `serving`, `last_good` and the rest.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Disk space that is given back when the disk is full and the way out must be written down.
    #[must_use]
    pub fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// Makes the directories. What may hold secrets is the owner's alone.
    ///
    /// # Errors
    /// The system's.
    pub fn create(&self) -> io::Result<()> {
        for (dir, mode) in self.modes() {
            fs::create_dir(&dir, mode)?;
        }
        Ok(())
    }

    /// Makes one of the directories; nothing when it is none of them.
    ///
    /// # Errors
    /// The system's.
    pub fn make(&self, dir: &Path) -> io::Result<()> {
        let own = self.modes().into_iter().find(|(own, _)| own == dir);
        own.map_or(Ok(()), |(dir, mode)| fs::create_dir(&dir, mode))
    }

    /// Every directory of the service, its own first.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        self.modes().into_iter().map(|(dir, _)| dir).collect()
    }

    fn modes(&self) -> Vec<(PathBuf, u32)> {
        let open = [self.dir.clone(), self.releases(), self.shared(), self.run()];
        let closed = [
            self.metas(),
            self.staging(),
            self.incoming(),
            self.ops(),
            self.logs(),
            self.oneshots(),
        ];
        // The service's user gets to its own, and sees nothing else.
        let passages = [self.backups(), self.scratch()];
        let open = open.into_iter().map(|dir| (dir, 0o755));
        let closed = closed.into_iter().map(|dir| (dir, 0o700));
        open.chain(closed).chain(passages.into_iter().map(|dir| (dir, 0o711))).collect()
    }

    /// Numbers of what is in a directory of numbered entries.
    #[must_use]
    pub fn numbers(dir: &Path) -> Vec<u64> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name());
        let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
        let mut numbers: Vec<u64> = numbers.filter(|number| *number < NUMBERS_END).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// An entry of a directory of numbered ones.
#[must_use]
pub fn numbered(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:07}"))
}

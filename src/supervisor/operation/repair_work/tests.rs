//! Each file of a service, empty, cut off, foreign, missing, or a directory: it is found, nothing is changed
//! by looking, and a repair leaves nothing damaged and loses nothing.

use std::fs;
use std::path::Path;

use super::*;
use crate::json;
use crate::store::journal::Journal;
use crate::store::layout::Layout;
use crate::store::state::Served;

const CONFIG: &str = "root = \"root\"\n[service.web]\ncommand = [\"/bin/true\"]\n";

struct World {
    dir: tempfile::TempDir,
    config: model::Service,
    paths: ServiceLayout,
}

impl World {
    /// Two releases that were committed, the second by operation 2.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("halley.toml"), CONFIG).unwrap();
        let mut config = crate::config::load(&dir.path().join("halley.toml")).unwrap();
        let (name, service) = config.services.pop_first().unwrap();
        let paths = Layout::new(&dir.path().join("root")).service(&name);
        paths.create().unwrap();
        let world = Self { dir, config: service, paths };
        (1..=2).for_each(|release| world.stage(release));
        world.state().save(&world.paths).unwrap();
        durable::swap_symlink(&world.paths.current(), Path::new("releases/2")).unwrap();
        world
    }

    fn state(&self) -> State {
        let good = Served { release: 2, generation: 2, op: 2 };
        State { last_good: Some(good), next_release: 3, ..State::default() }
    }

    fn stage(&self, release: u64) {
        let (paths, id) = (&self.paths, ReleaseId(release));
        let tree = paths.release(id);
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("VERSION"), release.to_string()).unwrap();
        fs::write(tree.join("release.toml"), "version = \"x\"\n").unwrap();
        let listing = seal::list(&tree).unwrap();
        let manifest = Manifest {
            version: 1,
            digest: listing.digest.clone(),
            n_files: listing.n_files,
            size_bytes: listing.size_bytes,
            at: "x".to_owned(),
            source: "build".to_owned(),
            actor: "ann".to_owned(),
            label: None,
        };
        release::write(paths, id, &manifest, &listing, &self.config.settings).unwrap();
        release::set_verdict(paths, id, Verdict::Good, None).unwrap();
        let mut journal = Journal::create(paths, &self.intent(release)).unwrap();
        journal.announce(&Record::start("bake", "refused", None)).unwrap();
        let mut outcome = Outcome::new(Word::Committed.into(), "web", release);
        (outcome.release, outcome.last_good) = (Some(release), Some(release));
        journal.announce(&Record::result(outcome)).unwrap();
    }

    fn intent(&self, release: u64) -> Intent {
        let intent = serde_json::json!({
            "version": 1, "op": release, "kind": "release", "actor": "ann", "source": "build",
            "at": "x", "boot_id": "", "release": release, "generation": release, "old": null,
            "warm": null, "ladder": [], "inconclusive": "hold", "succession": "overlap",
        });
        json::from_value(intent).unwrap()
    }

    /// A third operation is in its bake, its release on trial.
    fn in_a_trial() -> Self {
        let world = Self::new();
        let mut journal = Journal::create(&world.paths, &world.intent(3)).unwrap();
        journal.announce(&Record::start("flip", "refused", None)).unwrap();
        let trial = Trial { version: 1, release: 3, generation: 3, op: 3, n_tries_left: 1 };
        trial::begin(&world.paths, &trial).unwrap();
        world
    }

    fn work(&self, is_confirmed: bool) -> RepairPlan {
        let (paths, config) = (self.paths.clone(), self.config.clone());
        let work = Work { paths, config, memory: None, runs: vec![(2, 2)], is_confirmed };
        work.perform().unwrap()
    }

    fn listing(&self) -> Vec<String> {
        let listing = seal::list(self.dir.path()).unwrap();
        listing.entries.iter().map(|entry| format!("{entry:?}")).collect()
    }
}

type Harm = fn(&Path);

/// Each way in which a file can be harmed.
const HARMS: [(&str, Harm); 5] = [
    ("empty", |path| fs::write(path, "").unwrap()),
    ("half", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("foreign", |path| fs::write(path, "{\"name\": \"left-pad\",\n\"version\": 3}\n").unwrap()),
    ("missing", |path| fs::remove_file(path).unwrap()),
    ("a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir_all(path.join("below")).unwrap();
    }),
];

/// Harms one file in each way; what it becomes must have this in it.
#[track_caller]
fn check(
    harms: &[(&str, Harm)],
    new: fn() -> World,
    path: fn(&World) -> PathBuf,
    proof: fn(&World) -> bool,
) {
    for (harm, harmed) in harms {
        let world = new();
        let path = path(&world);
        let case = format!("{harm}: {}", path.display());
        harmed(&path);
        let before = world.listing();
        let shown = world.work(false);
        assert_eq!(world.listing(), before, "{case}: looking has changed something");
        let step = shown.steps.iter().find(|step| Path::new(&step.path) == path);
        let step = step.unwrap_or_else(|| panic!("{case} is not found: {:?}", shown.steps));
        let done = world.work(true);
        assert_eq!(done.steps, shown.steps, "{case}");
        assert!(!step.lost, "{case}: {step:?}");
        if *harm != "missing" {
            assert!(Path::new(step.kept.as_ref().unwrap()).exists(), "{case} is kept");
        }
        assert_eq!(damage::find(&world.paths), [], "{case}");
        assert!(proof(&world), "{case}");
    }
}

#[test]
fn a_state_is_rebuilt() {
    check(
        &HARMS,
        World::new,
        |world| world.paths.state(),
        |world| State::load(&world.paths).unwrap() == world.state(),
    );
}

#[test]
fn a_link_and_the_files_about_a_release_are_rebuilt() {
    type Part = (&'static str, fn(&World) -> bool);
    let of = |world: &World, name: &str| world.paths.meta(ReleaseId(2)).join(name);
    let known = |world: &World| release::known(&world.paths, ReleaseId(2)).unwrap();
    let parts: [Part; 4] = [
        (release::MANIFEST, |world| {
            let manifest = release::manifest(&world.paths, ReleaseId(2)).unwrap();
            (manifest.actor.as_str(), manifest.source.as_str()) == ("ann", "build")
        }),
        (release::HASHES, |world| release::damage(&world.paths, ReleaseId(2)).unwrap().is_empty()),
        (release::SETTINGS, |world| {
            release::settings(&world.paths, ReleaseId(2)).unwrap() == world.config.settings
        }),
        (release::VERDICT, |world| {
            release::verdict(&world.paths, ReleaseId(2)).unwrap().0 == Verdict::Good
        }),
    ];
    for (name, proof) in parts {
        for (harm, harmed) in HARMS {
            let world = World::new();
            let digest = known(&world).manifest.digest;
            harmed(&of(&world, name));
            assert_eq!(world.work(false).steps.len(), 1, "{harm}: {name}");
            world.work(true);
            assert_eq!(damage::find(&world.paths), [], "{harm}: {name}");
            assert!(proof(&world) && known(&world).manifest.digest == digest, "{harm}: {name}");
        }
    }
    let link = |world: &World| fs::read_link(world.paths.current()).unwrap();
    for harm in ["missing", "a directory", "dangling"] {
        let world = World::new();
        fs::remove_file(world.paths.current()).unwrap();
        match harm {
            "a directory" => fs::create_dir(world.paths.current()).unwrap(),
            "dangling" => {
                std::os::unix::fs::symlink("releases/9", world.paths.current()).unwrap();
            }
            _ => {}
        }
        world.work(true);
        assert_eq!(link(&world), Path::new("releases/2"), "{harm}");
    }
}

#[test]
fn a_journal_is_made_of_its_whole_lines_and_never_resumed() {
    for (harm, harmed) in &HARMS[2..] {
        let world = World::in_a_trial();
        let path = journal::path(&world.paths, OpId(3));
        fs::write(world.paths.op(OpId(3)).join("output.log"), "").unwrap();
        harmed(&path);
        let step = &world.work(false).steps[0];
        assert_eq!(Path::new(&step.path), path, "{harm}");
        world.work(true);
        assert_eq!(damage::find(&world.paths), [], "{harm}");
        let (intent, _) = journal::open_operation(&world.paths).unwrap().unwrap();
        // By its trial.
        assert_eq!(
            (intent.kind.as_str(), intent.release, intent.old),
            (LOST, 3, Some(2)),
            "{harm}"
        );
    }
    // Nothing of the operation runs, nothing was migrated: it is over.
    let world = World::new();
    fs::write(journal::path(&world.paths, OpId(2)), "one\ntwo\n").unwrap();
    world.work(true);
    assert!(journal::open_operation(&world.paths).unwrap().is_none());
    assert_eq!(damage::find(&world.paths), []);
}

#[test]
fn a_trial_is_the_release_of_the_open_operation_or_gone() {
    // One that is missing is none.
    let trial_harms = [HARMS[0], HARMS[1], HARMS[2], HARMS[4]];
    check(
        &trial_harms,
        World::in_a_trial,
        |world| trial::present(&world.paths).unwrap_or_default(),
        |world| {
            let trial = Trial { version: 1, release: 3, generation: 3, op: 3, n_tries_left: 1 };
            trial::read(&world.paths).unwrap() == Some(trial)
        },
    );
    let world = World::new();
    fs::write(world.paths.dir().join("trial+1"), "{").unwrap();
    world.work(true);
    assert_eq!((trial::read(&world.paths).unwrap(), damage::find(&world.paths)), (None, vec![]));
}

#[test]
fn a_directory_that_is_a_file_gives_way_and_a_tree_that_has_changed_is_lost() {
    let world = World::new();
    for dir in [world.paths.backups(), world.paths.logs()] {
        fs::remove_dir(&dir).unwrap();
        fs::write(dir, "").unwrap();
    }
    fs::remove_dir_all(world.paths.meta(ReleaseId(1))).unwrap();
    fs::write(world.paths.meta(ReleaseId(1)), "").unwrap();
    let steps = world.work(true).steps;
    assert_eq!(steps.len(), 7, "{steps:?}");
    assert_eq!(damage::find(&world.paths), []);
    fs::write(world.paths.release(ReleaseId(2)).join("VERSION"), "3").unwrap();
    let plan = world.work(true);
    assert!(plan.steps[0].lost && plan.steps[0].why.contains("VERSION"), "{plan:?}");
    // Hashes of a tree that is not what was released would hide that.
    fs::remove_file(world.paths.meta(ReleaseId(2)).join(release::HASHES)).unwrap();
    assert!(world.work(true).steps[0].lost);
    assert!(world.work(true).steps[0].lost);
}

#[test]
fn everything_but_the_trees_may_be_lost_at_once() {
    let world = World::new();
    for release in [1, 2] {
        fs::remove_dir_all(world.paths.meta(ReleaseId(release))).unwrap();
    }
    fs::write(world.paths.state(), "").unwrap();
    fs::remove_file(world.paths.current()).unwrap();
    world.work(true);
    assert_eq!(damage::find(&world.paths), []);
    assert_eq!(State::load(&world.paths).unwrap(), world.state());
    assert_eq!(fs::read_link(world.paths.current()).unwrap(), Path::new("releases/2"));
}

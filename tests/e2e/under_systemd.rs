//! The unit under a real systemd, the first process of a process namespace of the test's own. It shares
//! files and network with the host; its units, `/run` and cgroups are its own.

use std::fs;
use std::process::{Child, Command, Stdio};

use halley_sup::demo::load::Shape;
use halley_sup::os::proc;

use crate::intercept;
use crate::keeper_death::released_binder;
use crate::upgrade;
use crate::world::{BINARY, World, config, free_address, is_gone, kill, supervisor_of};

const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// `$1` is a directory of the test's own, `$2` the first process.
const BEGIN: &str = r#"set -e
mkdir $1/cgroups
mount -t cgroup2 none $1/cgroups
own=$1/cgroups/halley-$$
mkdir $own
sh -c 'echo $$ > $0/cgroup.procs; exec unshare -Cmpuf --kill-child sh -c "$1" "$2" "$3"' \
    $own "$2" "$1" "$3" || true
find $own -depth -type d -exec rmdir {} \;
"#;

/// `$0` is the directory, `$1` the first process.
const INSIDE: &str = r#"set -e
umount $0/cgroups
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
mount -t tmpfs tmpfs /run
mkdir /run/systemd
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /dev/null /dev/console
mount --bind $0/units /etc/systemd/system
echo 0123456789abcdef0123456789abcdef > /run/id
mount --bind /run/id /etc/machine-id
exec env -i container=halley PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    $1 --system --unit=first.target --log-target=console --show-status=no
"#;

/// A systemd of the test's own.
struct Systemd {
    around: Child,
    /// Its process, as the host sees it.
    pid: i32,
}

impl Systemd {
    /// Starts one that has the unit, for this world's configuration. `None`: there is no systemd here, or
    /// no right to start one.
    fn of(world: &World) -> Option<Self> {
        let may = rustix::process::geteuid().is_root()
            && fs::read_to_string("/proc/filesystems").unwrap().contains("cgroup2");
        if !may || !std::path::Path::new(SYSTEMD).exists() {
            eprintln!("skipped: no systemd can be started here");
            return None;
        }
        let units = world.path("systemd/units");
        fs::create_dir_all(&units).unwrap();
        let first = "[Unit]\nDescription=first\nDefaultDependencies=no\n";
        fs::write(units.join("first.target"), first).unwrap();
        fs::write(units.join("halley-sup.service"), unit(world)).unwrap();
        let log = fs::File::create(world.path("systemd.log")).unwrap();
        let around = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", BEGIN, "sh"])
            .arg(world.path("systemd"))
            .args([INSIDE, SYSTEMD])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut systemd = Self { around, pid: 0 };
        let root = i32::try_from(systemd.around.id()).unwrap();
        let name = |pid: &i32| proc::name(*pid).is_some_and(|name| name == "systemd");
        let find = || proc::tree(root).into_iter().find(name);
        world.wait("systemd begins", |_| find().is_some());
        systemd.pid = find().unwrap();
        world.wait("systemd answers", |_| systemd.ctl(&["show", "-p", "Version"]).0);
        Some(systemd)
    }

    /// `systemctl`: whether it succeeds, and what it says.
    fn ctl(&self, args: &[&str]) -> (bool, String) {
        let pid = self.pid.to_string();
        let done =
            Command::new("nsenter").args(["-a", "-t", &pid, "systemctl"]).args(args).output();
        let done = done.unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
    }

    fn property(&self, name: &str) -> String {
        self.ctl(&["show", "-p", name, "--value", "halley-sup"]).1
    }

    /// The unit's main process, as the host sees it.
    fn main_pid(&self) -> Option<i32> {
        let main = self.property("MainPID");
        let is_it = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let mut ids =
                status.lines().find(|line| line.starts_with("NSpid:")).unwrap_or("").split('\t');
            ids.next_back() == Some(&main)
        };
        proc::tree(self.pid).into_iter().filter(|pid| *pid != self.pid).find(is_it)
    }

    /// Another main process than this one, which answers.
    fn came_again(&self, world: &World, before: i32) -> i32 {
        let new = || self.main_pid().filter(|pid| *pid != before && supervisor_of(*pid).is_some());
        world.wait("the unit is there again", |world| {
            self.property("ActiveState") == "active"
                && new().is_some()
                && world.cli(&["status"]).code == 0
        });
        new().unwrap()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        kill(self.pid, libc::SIGKILL);
        drop(self.around.wait());
    }
}

/// The unit as it is installed, without what only a whole system has.
fn unit(world: &World) -> String {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/units/halley-sup.service");
    let command =
        |verb: &str| format!("{BINARY} {verb} --config {}", world.path("halley.toml").display());
    let (run, reload) = (command("run"), command("reload"));
    let mut text = fs::read_to_string(unit).unwrap();
    for (from, to) in [
        ("/usr/local/bin/halley-sup run", run.as_str()),
        ("/usr/local/bin/halley-sup reload", reload.as_str()),
        ("After=network.target\n", "DefaultDependencies=no\n"),
        ("StateDirectory=halley\n", ""),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

#[test]
fn a_restart_of_the_unit_and_a_crash_of_all_of_it_lose_nothing_and_a_stop_ends_it() {
    let world = World::asleep(free_address());
    world.configure(&config(world.address, ""));
    let Some(systemd) = Systemd::of(&world) else { return };
    assert_eq!(systemd.ctl(&["start", "halley-sup"]), (true, String::new()));
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let pid = world.live_pid();
    let mut main = systemd.main_pid().unwrap();
    assert_ne!(systemd.property("NFileDescriptorStore"), "0");
    // It becomes another program, and the unit keeps its process.
    let copy = upgrade::copy(&world);
    world.cli(&["upgrade", &copy.to_string_lossy()]).expect(0);
    assert_eq!((systemd.main_pid(), world.live_pid()), (Some(main), pid));
    assert_eq!(systemd.property("ActiveState"), "active");
    // As it is restarted by an administrator.
    assert_eq!(systemd.ctl(&["restart", "halley-sup"]), (true, String::new()));
    main = systemd.came_again(&world, main);
    assert_eq!(world.live_pid(), pid);
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    // The keeper alone, and keeper and supervisor.
    kill(main, libc::SIGKILL);
    main = systemd.came_again(&world, main);
    assert_eq!(world.live_pid(), pid);
    let supervisor = supervisor_of(main).unwrap();
    kill(main, libc::SIGSTOP);
    kill(supervisor, libc::SIGKILL);
    kill(main, libc::SIGKILL);
    world.wait("they are gone", |_| is_gone(main) && is_gone(supervisor));
    systemd.came_again(&world, main);
    assert_eq!(world.live_pid(), pid);
    world.release(&[]).expect(0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!(systemd.ctl(&["stop", "halley-sup"]), (true, String::new()));
    assert!(std::net::TcpStream::connect(world.address).is_err());
    assert_eq!(systemd.property("ActiveState"), "inactive");
    let left: Vec<_> =
        proc::tree(systemd.pid).into_iter().filter(|pid| *pid != systemd.pid).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(systemd.property("NFileDescriptorStore"), "0");
}

#[test]
fn a_reload_of_the_unit_fails_on_a_bad_configuration_and_a_restart_runs_on_with_the_last_good_one()
{
    let world = World::asleep(free_address());
    let good = config(world.address, "");
    world.configure(&good);
    let Some(systemd) = Systemd::of(&world) else { return };
    assert_eq!(systemd.ctl(&["start", "halley-sup"]), (true, String::new()));
    world.release(&[]).expect(0);
    assert_eq!(systemd.property("StatusText"), "1 service");
    world.configure(&format!("{good}[service.api]\nlisen = 1\n"));
    assert!(!systemd.ctl(&["reload", "halley-sup"]).0);
    let said = |wanted: &str| systemd.property("StatusText").contains(wanted);
    world.wait("it is said", |_| said("the last good one stays in use"));
    assert_eq!(systemd.property("ActiveState"), "active");
    assert!(systemd.ctl(&["stop", "halley-sup"]).0);
    assert!(systemd.ctl(&["start", "halley-sup"]).0);
    world.wait("it serves", |world| world.answering() == Some(1));
    assert!(said("the last good one stays in use"), "{}", systemd.property("StatusText"));
    world.configure(&good);
    assert!(systemd.ctl(&["reload", "halley-sup"]).0);
    world.wait("it is over", |_| systemd.property("StatusText") == "1 service");
    assert!(systemd.ctl(&["stop", "halley-sup"]).0);
}

/// The filter that its calls are reported through is stored with the sockets: while nobody has it, calls
/// fail at once.
#[test]
fn a_program_that_binds_while_nothing_of_halley_runs_waits_for_the_next() {
    let world = intercept::asleep("");
    let Some(systemd) = Systemd::of(&world) else { return };
    assert_eq!(systemd.ctl(&["start", "halley-sup"]), (true, String::new()));
    let (go, bound) = released_binder(&world);
    let main = systemd.main_pid().unwrap();
    let supervisor = supervisor_of(main).unwrap();
    kill(main, libc::SIGSTOP);
    kill(supervisor, libc::SIGKILL);
    kill(main, libc::SIGKILL);
    world.wait("they are gone", |_| is_gone(main) && is_gone(supervisor));
    fs::write(&go, "").unwrap();
    systemd.came_again(&world, main);
    world.wait("it is answered", |_| bound.exists());
    assert_eq!(fs::read_to_string(&bound).unwrap(), "bound");
    assert_eq!(systemd.ctl(&["stop", "halley-sup"]), (true, String::new()));
}

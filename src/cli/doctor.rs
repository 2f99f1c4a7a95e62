//! `doctor`: kernel and host support, and what to do without it.

use std::error::Error;
use std::fs;
use std::io;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::verb::{Common, Own};
use crate::cli::{client, exit, out, render};
use crate::config;
use crate::config::model::{Config, Listen};
use crate::core::exit::Exit;
use crate::core::ids::ServiceName;
use crate::os::{apart, call_filter, isolate, listen, steer};
use crate::store::damage::{self, Damage};
use crate::store::last_config;
use crate::store::layout::Layout;

/// Check kernel and host support
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    common: Common,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    Warn,
    Bad,
}

/// One check: its grade, what was found, what to do.
struct Finding {
    grade: Grade,
    what: String,
    next: String,
}

impl Own for Doctor {
    fn perform(self) -> ExitCode {
        let path = config::locate(self.common.config);
        let mut findings = vec![steering(), interception(), fence(), isolation()];
        findings.extend(kernel());
        findings.push(migration());
        match config::load(&path) {
            Ok(config) => findings.extend(configured(&config)),
            Err(problems) => findings.extend(
                problems
                    .iter()
                    .map(|problem| finding(Grade::Bad, problem.to_string(), "halley-sup check")),
            ),
        }
        for finding in &findings {
            let grade = match finding.grade {
                Grade::Ok => "ok",
                Grade::Warn => "warn",
                Grade::Bad => "bad",
            };
            if self.common.json {
                let (what, next) = (&finding.what, &finding.next);
                out::json(json!({ "grade": grade, "what": what, "next": next }));
            } else if finding.next.is_empty() {
                out::result(format!("{grade:<5} {}", finding.what));
            } else {
                out::result(format!("{grade:<5} {}\n      next: {}", finding.what, finding.next));
            }
        }
        let bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
        let ended = if bad { Exit::Internal } else { Exit::Done };
        if self.common.json {
            render::checked(ended, json!({}));
        }
        exit::code(ended)
    }
}

fn finding(grade: Grade, what: impl Into<String>, next: &str) -> Finding {
    Finding { grade, what: what.into(), next: next.to_owned() }
}

/// Steering is tried, not looked up: two sockets, a program, a connection.
fn steering() -> Finding {
    let tried = || -> Result<bool, Box<dyn Error>> {
        let first = listen::tcp_slot("127.0.0.1:0".parse()?)?;
        listen::listen(&first, 64)?;
        let address = listen::address_of(&first)?;
        let second = listen::tcp_slot(address)?;
        listen::listen(&second, 64)?;
        let share = [steer::Share { position: 1, weight: 1 }];
        let program = steer::program(&[], &share, 2)?;
        steer::attach(&first, &program)?;
        for _ in 0..16 {
            let _client = std::net::TcpStream::connect(address)?;
        }
        let state = listen::slot_state(&first)?;
        Ok(state.n_queued == 0)
    };
    match tried() {
        Ok(true) => finding(Grade::Ok, "steering works: flips without loss", ""),
        Ok(false) => {
            let what = "steering has no effect: connections went to the other socket";
            finding(Grade::Bad, what, "use Linux 4.6 or later, outside of a gVisor-like sandbox")
        }
        Err(why) => finding(Grade::Bad, format!("steering: {why}"), "use Linux 4.6 or later"),
    }
}

/// Tried as well: a sandbox may forbid what the version allows.
fn interception() -> Finding {
    if crate::os::kernel().can_intercept {
        finding(Grade::Ok, "intercept works: unmodified programs get their sockets", "")
    } else {
        let next = "use inherit where a program takes sockets (LISTEN_FDS), else port";
        finding(Grade::Warn, "this kernel does not report bind(): no handoff intercept", next)
    }
}

/// Programs that are tried out on a copy of the data stand behind a fence.
fn fence() -> Finding {
    if crate::os::kernel().can_intercept && call_filter::is_known_machine() {
        finding(Grade::Ok, "the fence works: a rehearsal on a copy reaches nothing live", "")
    } else {
        let what =
            "this kernel does not report connect(): no program is tried on a copy of the data";
        finding(Grade::Warn, what, "use Linux 5.9 or later on x86_64, aarch64 or arm")
    }
}

/// Tried as well, for the user that asks.
fn isolation() -> Finding {
    let tried = tempfile::tempdir().map_err(|error| error.to_string());
    match tried.and_then(|dir| isolate::attempt(dir.path(), &[]).map_err(|why| why.to_string())) {
        Ok(()) => match apart::still_reached() {
            None => {
                let what = "isolation works: rehearsals see a copy in the place of data";
                finding(Grade::Ok, what, "")
            }
            Some(reached) => {
                let what =
                    format!("a rehearsal sees a copy in the place of data, and reaches {reached}");
                finding(Grade::Warn, what, "a newer kernel, or lsm=landlock on its command line")
            }
        },
        Err(why) if apart::has_landlock() => {
            let what =
                format!("no mounts of its own for a rehearsal ({why}): Landlock protects data");
            finding(Grade::Warn, what, "name data by variables, or run as root")
        }
        Err(why) => {
            let what =
                format!("rehearsals cannot be isolated ({why}): nothing is started on a copy");
            finding(Grade::Warn, what, "run as root, or allow user namespaces")
        }
    }
}

fn kernel() -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let wanted = [
        ((4, 6), Grade::Bad, "steering"),
        ((5, 3), Grade::Bad, "pidfd: a signal never reaches another process with the same pid"),
        ((5, 6), Grade::Warn, "openat2: safe unpacking without a fallback"),
        ((5, 9), Grade::Warn, "handoff = \"intercept\""),
    ];
    let check = |((major, minor), grade, what): ((u32, u32), Grade, &str)| {
        if version >= (major, minor) {
            finding(Grade::Ok, format!("Linux {release}: {what}"), "")
        } else {
            let what = format!("Linux {release} is older than {major}.{minor}: {what}");
            finding(grade, what, "use a newer kernel")
        }
    };
    wanted.into_iter().map(check).collect()
}

fn number(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn migration() -> Finding {
    match number("/proc/sys/net/ipv4/tcp_migrate_req") {
        Some(1) => finding(
            Grade::Warn,
            "net.ipv4.tcp_migrate_req is 1: the kernel moves queued connections by itself",
            "sysctl net.ipv4.tcp_migrate_req=0",
        ),
        _ => finding(Grade::Ok, "the kernel moves no queued connections by itself", ""),
    }
}

fn configured(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let somaxconn = number("/proc/sys/net/core/somaxconn").unwrap_or(128);
    for service in config.services.values() {
        if service.backlog > somaxconn {
            let name = &service.name;
            findings.push(finding(
                Grade::Warn,
                format!("{name}: backlog {} is cut to somaxconn, {somaxconn}", service.backlog),
                &format!("sysctl net.core.somaxconn={}", service.backlog),
            ));
        }
        let inet = service.listen.iter().filter_map(|listen| match listen {
            Listen::Tcp(address) | Listen::Udp(address) => Some(address),
            Listen::Unix(_) => None,
        });
        for address in inet {
            if let Some((low, high)) =
                ephemeral().filter(|(low, high)| (*low..=*high).contains(&address.port()))
            {
                findings.push(finding(
                    Grade::Warn,
                    format!(
                        "{}: port {} lies within {low} to {high}, which the kernel gives to \
                         outgoing connections",
                        service.name,
                        address.port()
                    ),
                    "use another port, or add it to net.ipv4.ip_local_reserved_ports",
                ));
            }
        }
    }
    findings.extend(config.services.keys().flat_map(|name| damaged(config, name)));
    let kept = Layout::new(&config.root).last_config();
    if last_config::is_damaged(&kept) {
        let what = format!("{} is not what was written", kept.display());
        findings.push(finding(Grade::Warn, what, "halley-sup reload"));
    }
    findings.push(match client::reach(&config.socket) {
        Ok(_) => finding(Grade::Ok, "the supervisor can be reached", ""),
        Err(error) => finding(
            Grade::Warn,
            format!("the supervisor cannot be reached: {}: {error}", config.socket.display()),
            "halley-sup run",
        ),
    });
    findings
}

/// Files of Halley's own that are not what was written.
fn damaged(config: &Config, name: &ServiceName) -> Vec<Finding> {
    let paths = Layout::new(&config.root).service(name);
    match fs::read_dir(paths.metas()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = format!("{name}: its files cannot be looked at: {error}");
            return vec![finding(Grade::Warn, what, "run it as the user that halley-sup runs as")];
        }
        _ => {}
    }
    let of = |damage: Damage| {
        let what = format!("{name}: {}: {}", damage.path.display(), damage.why);
        finding(Grade::Bad, what, &format!("halley-sup repair {name}"))
    };
    damage::find(&paths).into_iter().map(of).collect()
}

fn ephemeral() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_ascii_whitespace().map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

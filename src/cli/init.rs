//! `init [DIR]`: looks at a directory and writes a configuration to begin with, and a unit. It needs no
//! supervisor and never writes over a file.

mod sight;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::api::Trouble;
use crate::cli::given::quoted;
use crate::cli::verb::Own;
use crate::cli::{exit, out, render};
use crate::core::exit::Exit;
use crate::core::ids::ServiceName;
use crate::os::beneath;

/// The unit that is installed on a server.
const UNIT: &str = include_str!("../../units/halley-sup.service");

/// Look at a directory and write a configuration to begin with
#[derive(Debug, Args)]
pub struct Init {
    /// Directory of the program [default: this one]
    dir: Option<PathBuf>,
    /// Name of the service [default: the directory's]
    #[arg(long, value_name = "SERVICE")]
    name: Option<ServiceName>,
    /// Print JSON, one object a line, the result last
    #[arg(long)]
    json: bool,
}

impl Own for Init {
    fn perform(self) -> ExitCode {
        let dir = self.dir.clone().unwrap_or_else(|| PathBuf::from("."));
        match self.write(&dir) {
            Ok(code) => code,
            Err(error) => {
                let config = dir.join("halley.toml");
                let is_there = error.kind() == io::ErrorKind::AlreadyExists;
                let again = format!("halley-sup check --config {}", shell(&config));
                let trouble = Trouble {
                    what: "no configuration was written".to_owned(),
                    why: match is_there {
                        true => format!("{} is there already", config.display()),
                        false => format!("{}: {error}", dir.display()),
                    },
                    still: "nothing was changed".to_owned(),
                    next: is_there.then_some(again).into_iter().collect(),
                    exit: Exit::Usage.code(),
                };
                render::refused(self.json, &trouble)
            }
        }
    }
}

impl Init {
    fn write(&self, dir: &Path) -> io::Result<ExitCode> {
        let full = beneath::real(dir)?;
        let name = self.name.as_ref().map_or_else(|| name_of(&full), ToString::to_string);
        let sight = sight::look(&full, &name);
        let config = full.join("halley.toml");
        File::create_new(&config)?.write_all(sight.text(&name).as_bytes())?;
        let unit = full.join("halley-sup.service");
        let is_new = match File::create_new(&unit) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            made => made?.write_all(unit_for(&config).as_bytes()).map(|()| true)?,
        };
        let option = format!("--config {}", shell(&config));
        let next = [
            format!("halley-sup check {option}"),
            format!("halley-sup run {option}"),
            format!("halley-sup release {option} {name} {}", sight.source(&full)),
        ];
        if self.json {
            render::written(json!({
                "service": name, "kind": sight.kind, "config": config, "unit": unit,
                "unit_written": is_new, "next": next,
            }));
            return Ok(exit::code(Exit::Done));
        }
        out::result(format!("{}: {}, service {name}", config.display(), sight.kind));
        let how = if is_new { "for systemd" } else { "was there already, and is left as it is" };
        out::result(format!("{}: {how}", unit.display()));
        out::say(format!("next: {}", next.join("\n      ")));
        Ok(exit::code(Exit::Done))
    }
}

fn shell(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A name like the directory's, as far as it can be one of a service.
fn name_of(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_matches('-').to_owned();
    if name.parse::<ServiceName>().is_ok() { name } else { "web".to_owned() }
}

/// The unit, for this program and this configuration.
fn unit_for(config: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/halley-sup".into());
    // systemd reads `%` and `$` in a command line, and splits it at spaces (systemd.service(5)).
    let word = |path: &Path| {
        let text = path.to_string_lossy().replace('%', "%%").replace('$', "$$");
        if text.contains([' ', '\'']) { format!("\"{text}\"") } else { text }
    };
    let command = format!("ExecStart={} run --config {}", word(&program), word(config));
    UNIT.replace("ExecStart=/usr/local/bin/halley-sup run", &command)
}

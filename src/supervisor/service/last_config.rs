//! The configuration as it was last good. The keeper holds it, and it lies on the disk, so that a
//! supervisor comes up also when the files were spoilt since, after a reboot too.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;

use crate::config::model::{self, Config};
use crate::config::{self, Files, Problem};
use crate::os;
use crate::os::memory;
use crate::store::last_config;
use crate::store::layout::Layout;
use crate::supervisor::processes::keeper_client::{Inventory, Link, LinkError};
use crate::supervisor::spawn;

/// What the keeper holds it as, with a number.
const KEPT: &str = "last-config.";
/// The same of one that had services which were removed while they ran, with a number.
const FORMER: &str = "former-config.";

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct LastConfig {
    number: Cell<u64>,
    trouble: RefCell<Option<String>>,
    files: RefCell<Vec<u8>>,
    /// The files before those.
    before: RefCell<Vec<u8>>,
    former: RefCell<Vec<Config>>,
}

impl LastConfig {
    /// Reads the configuration, at the start of a supervisor: the last good one when that cannot be
    /// used.
    ///
    /// # Errors
    /// When there is none either.
    pub(crate) async fn begin(
        &self,
        link: &Link,
        path: &Path,
        inventory: &mut Inventory,
    ) -> Result<Config, Vec<Problem>> {
        let numbers =
            inventory.kept.keys().filter_map(|name| name.strip_prefix(KEPT)?.parse().ok());
        self.number.set(numbers.max().unwrap_or(0));
        let kept = inventory.kept.remove(&self.name());
        let former = inventory.kept.keys().filter(|name| name.starts_with(FORMER)).cloned();
        for name in former.collect::<Vec<_>>() {
            let text = inventory.kept.remove(&name).and_then(|it| memory::text_of(it).ok());
            let files = text.and_then(|text| Files::kept(&text));
            let config = files.map(|files| config::load_from(path, os::kernel(), &files));
            self.former.borrow_mut().extend(config.and_then(Result::ok));
        }
        let problems = match self.read(link, path).await {
            Ok((config, _)) => return Ok(config),
            Err(problems) => problems,
        };
        let last = kept.and_then(|kept| Files::kept(&memory::text_of(kept).ok()?));
        let last = last.and_then(|files| usable(path, files)).or_else(|| on_disk(path));
        let (config, files) = last.ok_or(problems)?;
        self.files.replace(files.keep());
        Ok(config)
    }

    /// Reads the configuration, and has it kept when it is good: with what is different from the one before.
    ///
    /// # Errors
    /// All that is wrong; it is logged already, and [`Self::trouble`].
    pub(crate) async fn read(
        &self,
        link: &Link,
        path: &Path,
    ) -> Result<(Config, Vec<String>), Vec<Problem>> {
        let files = Files::default();
        match config::load_from(path, os::kernel(), &files) {
            Ok(config) => {
                self.trouble.replace(None);
                let changes = self.differing(path, &files);
                for why in config.services.values().filter_map(|service| service.no_env.as_ref()) {
                    tracing::error!(why, "an env_file cannot be used");
                }
                if let Err(error) = self.keep(link, &files).await {
                    tracing::warn!(%error, "having the configuration kept");
                }
                store(path, &config, &files).await;
                Ok((config, changes))
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(%problem, "the configuration cannot be used");
                }
                let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let text = "the configuration cannot be used, so the last good one stays in use: ";
                let next = "; next: halley-sup check, mend it, halley-sup reload";
                self.trouble.replace(Some(format!("{text}{}{next}", all.join(" · "))));
                Err(problems)
            }
        }
    }

    /// What the files say that is not in use.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn differences(&self, path: &Path) -> Result<Vec<String>, Vec<Problem>> {
        let files = Files::default();
        config::load_from(path, os::kernel(), &files)?;
        Ok(self.differing(path, &files))
    }

    fn differing(&self, path: &Path, files: &Files) -> Vec<String> {
        let before = Files::kept(&self.files.borrow()).unwrap_or_default();
        config::difference(path, &before, files)
    }

    /// A service as it was configured when it was removed.
    pub(crate) fn former(&self, name: &str) -> Option<model::Service> {
        let former = self.former.borrow();
        let services = former.iter().rev().flat_map(|config| &config.services);
        let mut found = services.filter(|(known, _)| known.as_str() == name);
        found.next().map(|(_, service)| service.clone())
    }

    /// Services were removed that run: the next supervisor has to know them, too.
    pub(crate) async fn keep_former(&self, link: &Link) {
        let name = format!("{FORMER}{}", self.number.get());
        let memory = memory::filled("configuration", &self.before.borrow());
        let kept = match memory {
            Ok(memory) => link.keep(name, memory.as_fd()).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "having the former configuration kept");
        }
    }

    /// Why the last good one is in use.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// The new one first: there is one at every instant.
    async fn keep(&self, link: &Link, files: &Files) -> Result<(), LinkError> {
        let before = self.name();
        self.number.set(self.number.get() + 1);
        let files = files.keep();
        let memory = memory::filled("configuration", &files)?;
        self.before.replace(self.files.replace(files));
        link.keep(self.name(), memory.as_fd()).await?;
        link.forget(before).await
    }

    fn name(&self) -> String {
        format!("{KEPT}{}", self.number.get())
    }
}

/// The configuration that was last good, with its files, from the disk.
pub(crate) fn on_disk(path: &Path) -> Option<(Config, Files)> {
    config::roots(path).into_iter().find_map(|root| {
        let texts = last_config::kept(&Layout::new(&root).last_config(), path)?;
        usable(path, Files::of(texts)).filter(|(config, _)| config.root == root)
    })
}

fn usable(path: &Path, files: Files) -> Option<(Config, Files)> {
    let config = config::load_from(path, os::kernel(), &files).ok()?;
    Some((config, files))
}

/// Waits for the disk. One that takes nothing is no reason not to run.
async fn store(path: &Path, config: &Config, files: &Files) {
    let (file, path) = (Layout::new(&config.root).last_config(), path.to_owned());
    let texts = files.own_texts();
    let stored = spawn::blocking(move || last_config::keep(&file, &path, texts)).await;
    match stored {
        Ok(Err(error)) if error.kind() != ErrorKind::ReadOnlyFilesystem => {
            tracing::warn!(%error, "keeping the configuration for the next boot");
        }
        _ => {}
    }
}

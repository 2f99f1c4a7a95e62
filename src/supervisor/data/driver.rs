//! What a driver of backups can do.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use crate::config::model::Settings;
use crate::supervisor::data::context::{Context, Env};
use crate::supervisor::data::site::Site;

/// What was counted: rows by table, or files and bytes.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What a driver does, and what comes of it.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + 'a>>;

/// A kind of driver, with the settings of its section.
pub(crate) trait Driver {
    /// Programs that must be installed.
    fn tools(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a backup and a copy could be made now; asked where no tool is missing.
    fn ready<'a>(&'a self, _context: &'a Context<'_>) -> Work<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// How much data there is now, in bytes, where that is known without reading it.
    fn live_bytes(&self, _shared: &Path) -> Option<u64> {
        None
    }

    /// Writes a backup of the live data into an empty directory, which belongs to the service's user.
    fn take<'a>(&'a self, context: &'a Context<'_>, dir: &'a Path) -> Work<'a, ()>;

    /// Puts a backup in the place of the data at a site.
    fn restore<'a>(
        &'a self,
        context: &'a Context<'_>,
        from: &'a Path,
        site: &'a Site,
    ) -> Work<'a, ()>;

    /// Checks the data at a site and counts what is in it.
    fn inspect<'a>(&'a self, context: &'a Context<'_>, site: &'a Site) -> Work<'a, Counts>;

    /// What a program with these settings gets in its environment to work on a copy.
    fn env(&self, context: &Context<'_>, site: &Site, settings: &Settings) -> Env {
        context.env(site, settings, None, Env::new())
    }

    /// Removes what a copy has beside its directory; also when it is not there.
    fn discard<'a>(&'a self, _context: &'a Context<'_>, _site: &'a Site) -> Work<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

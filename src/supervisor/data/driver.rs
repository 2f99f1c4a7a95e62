//! What a driver of backups can do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::model::Settings;
use crate::keeper::protocol::To;
use crate::os::exchange::Back;
use crate::store::seal::Hashes;
use crate::supervisor::data::context::{Context, Env};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::relay::Guard;
use crate::supervisor::data::site::Site;

/// What was counted: rows by table, or files and bytes.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What SQLite keeps beside a database: played into another one, it would damage that.
pub(super) const JOURNALS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What comes of a driver's work.
pub(super) type Done<T = ()> = Result<T, DataError>;

/// What came of taking a backup.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Of the files that the driver has copied itself.
    pub hashes: Hashes,
    /// What was left out of the backup, for people.
    pub left_out: Vec<String>,
}

/// What became of data that was to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    /// It is in its place again.
    Back,
    /// It had not been moved.
    Untouched,
    /// There was none: what was put there stays.
    NothingBefore,
}

impl From<Back> for Undone {
    fn from(back: Back) -> Self {
        match back {
            Back::Moved => Self::Back,
            Back::Untouched => Self::Untouched,
            Back::Nothing => Self::NothingBefore,
        }
    }
}

/// What a driver keeps, with the path of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A database in a file, with its journals beside it.
    File(&'a Path),
    /// A directory with all that is in it.
    Directory(&'a Path),
}

impl<'a> Place<'a> {
    /// The path of its configuration.
    pub(crate) fn path(self) -> &'a Path {
        match self {
            Self::File(path) | Self::Directory(path) => path,
        }
    }
}

/// A client that a server has for the live data.
#[derive(Debug)]
pub(super) struct Session {
    /// For people.
    pub(super) text: String,
    /// Its port, where it came over the network and that is shown.
    pub(super) port: Option<u16>,
    /// The server's.
    pub(super) server_port: u16,
    /// The process of the server that works for it, by its number there.
    pub(super) backend: Option<i32>,
    /// The statement that ends it.
    pub(super) end: String,
    /// How a human does that.
    pub(super) by_hand: String,
}

/// Something of the live data that a server keeps outside of it, with the statements that make it so and
/// that take it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trait {
    /// For people.
    pub(super) name: String,
    pub(super) made: String,
    pub(super) taken: String,
}

/// A kind of driver, with the settings of its section.
pub(super) trait Driver {
    /// Programs that must be installed.
    fn tools(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a backup and a copy could be made now; asked where no tool is missing.
    async fn ready(&self, _context: &Context<'_>) -> Done {
        Ok(())
    }

    /// How much data there is now, in bytes, where that is known without reading it.
    fn live_bytes(&self, _shared: &Path) -> Option<u64> {
        None
    }

    /// Whether a backup without a byte may be one.
    fn may_be_empty(&self) -> bool {
        false
    }

    /// Writes a backup of the live data into an empty directory, which belongs to the service's user.
    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done<Taken>;

    /// Whether [`Self::restore`] hashes all that it copies: then a backup is checked by that.
    fn hashes_what_it_copies(&self) -> bool {
        false
    }

    /// Puts a backup where a copy is to be. Returns the hashes of what it has copied itself.
    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done<Hashes>;

    /// Whether the live data can be replaced, as far as that shows before anything is made or stopped.
    async fn replaceable(&self, _context: &Context<'_>) -> Done {
        Ok(())
    }

    /// Makes of a backup, beside the live data, what can take its place by renames. The service runs.
    async fn stage(&self, context: &Context<'_>, from: &Path) -> Done;

    /// Puts what is staged in the place of the live data, which stays beside it as it was. No process
    /// uses it.
    async fn put(&self, context: &Context<'_>, from: &Path) -> Done;

    /// Brings the data back that was there before, whatever step [`Self::put`] came to.
    async fn take_back(&self, context: &Context<'_>, from: &Path) -> Done<Undone>;

    /// What was put in place has proven itself: what was there before need not stay.
    async fn let_go(&self, context: &Context<'_>) -> Done;

    /// Removes what is staged; also when there is nothing.
    async fn unstage(&self, context: &Context<'_>, from: &Path) -> Done;

    /// Checks the data at a site and counts what is in it.
    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts>;

    /// Counts what is in it, without reading all of it where that is possible.
    async fn count(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        self.inspect(context, site).await
    }

    /// Counts what [`Self::put`] has displaced, and says what there was changed in place; nothing where
    /// nothing was.
    async fn displaced(&self, context: &Context<'_>, from: &Path) -> Done<(Counts, Vec<String>)>;

    /// Where in the file system that lies which [`Self::put`] has displaced.
    async fn aside(&self, _context: &Context<'_>) -> Done<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// What it means when neither counts nor [`Self::changed`] show a loss.
    fn shows_no_loss(&self) -> &'static str {
        "no table has more rows now"
    }

    /// What neither of them shows.
    fn sees_not(&self) -> &'static str {
        "rows that were changed or replaced since are not seen"
    }

    /// What is new or was changed since a backup, in words; empty where that is not known.
    async fn changed(&self, _context: &Context<'_>, _from: &Path) -> Done<Vec<String>> {
        Ok(Vec::new())
    }

    /// What [`Self::put`] may have changed that [`Self::take_back`] does not bring back.
    fn not_taken_back(&self) -> Option<String> {
        None
    }

    /// What could not be counted, or not be checked, in the data at a site, with the reasons.
    async fn uncounted(&self, _context: &Context<'_>, _site: &Site) -> Done<Vec<String>> {
        Ok(Vec::new())
    }

    /// What names the data that it keeps.
    fn source(&self, context: &Context<'_>) -> Vec<String> {
        let place = self.place().map(|place| context.path(&Site::Live, place.path()));
        place.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }

    /// Clients of the server that has the live data, this driver's own aside; `None` where there is no
    /// server.
    async fn sessions(&self, _context: &Context<'_>) -> Done<Option<Vec<Session>>> {
        Ok(None)
    }

    /// Performs statements that end sessions.
    async fn end_sessions(&self, _context: &Context<'_>, _ends: &str) -> Done {
        Ok(())
    }

    /// What is true of the live data and not of a copy, so that a restore would lose it.
    async fn lost(&self, _context: &Context<'_>, _site: &Site) -> Done<Vec<String>> {
        Ok(Vec::new())
    }

    /// What it keeps, when that has a path of its own.
    fn place(&self) -> Option<Place<'_>> {
        None
    }

    /// In what files a user of the data is looked for.
    fn used(&self) -> Vec<&Path> {
        self.place().map(Place::path).into_iter().collect()
    }

    /// Variables of a program with these settings that lead it to a copy which has no path.
    fn variables(&self, _context: &Context<'_>, _site: &Site, _settings: &Settings) -> Env {
        Env::new()
    }

    /// Addresses by which programs could find the live data.
    async fn addresses(&self, _context: &Context<'_>) -> Done<Vec<To>> {
        Ok(Vec::new())
    }

    /// What stands at those addresses while programs are tried out on a copy; `dir` is a directory
    /// for its sockets.
    async fn guard(
        &self,
        _context: &Context<'_>,
        _site: &Site,
        _dir: &Path,
    ) -> Done<Option<Guard>> {
        Ok(None)
    }

    /// What programs on a copy could change of the live data though they do not reach it.
    async fn traits(&self, _context: &Context<'_>) -> Done<Vec<Trait>> {
        Ok(Vec::new())
    }

    /// Makes that as it was before.
    async fn put_back(&self, _context: &Context<'_>, _before: &[Trait]) -> Done {
        Ok(())
    }

    /// Variables by which a server knows the clients of this name.
    fn signature(&self, _name: &str) -> Env {
        Env::new()
    }

    /// Ends what a server still does for clients of this name, and for clients that are gone.
    async fn settle(&self, _context: &Context<'_>, _name: &str) -> Done {
        Ok(())
    }

    /// Removes what a copy has beside its directory; also when it is not there.
    async fn discard(&self, _context: &Context<'_>, _site: &Site) -> Done {
        Ok(())
    }
}

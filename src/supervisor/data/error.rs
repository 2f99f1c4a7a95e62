//! Why something could not be done with data.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::receipt::Damage;
use crate::supervisor::tasks::task::{CommandError, Ended};

/// With this code `backup.take` says that there is no data yet (`EX_NOINPUT`, sysexits.h).
pub(super) const NO_DATA: i32 = 66;

/// Why something could not be done with data, or with a copy of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// A file or a directory.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// Something in the tree of the driver `files`.
    #[error("files: {0}")]
    Tree(#[source] io::Error),
    /// Who else uses the data.
    #[error("looking for processes that use the data: {0}")]
    Processes(#[source] io::Error),
    /// It changed each time that it was copied.
    #[error("files: its files change faster than they can be copied")]
    Unsteady,
    /// There is no data where the configuration says.
    #[error("{path}: there is no database (backup.path)", path = path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// There is a database, and nothing is in it.
    #[error("{path}: the database has no tables (backup.path)", path = path.display())]
    NoTables {
        /// Where.
        path: PathBuf,
    },
    /// The same on a server.
    #[error("the database {database} has no tables")]
    NoTablesIn {
        /// Its name.
        database: String,
    },
    /// There is no directory where the configuration says.
    #[error("{path}: there is no directory (backup.path)", path = path.display())]
    NoDirectory {
        /// Where.
        path: PathBuf,
    },
    /// Its attributes keep it where it is.
    #[error(
        "{path}: it is immutable or append-only, and cannot be replaced: chattr -i -a {path}",
        path = path.display()
    )]
    Pinned {
        /// Which.
        path: PathBuf,
    },
    /// A transaction that waits for its second phase.
    #[error(
        "the database {database} has prepared transactions, and cannot be renamed: COMMIT PREPARED or \
         ROLLBACK PREPARED these: {transactions}"
    )]
    Prepared {
        /// Whose.
        database: String,
        /// Their names.
        transactions: String,
    },
    /// The configured command says so.
    #[error("backup.take: exit {}: there is no data", NO_DATA)]
    SaidNone,
    /// No other directory can lie over that of the database.
    #[error("{path}: a database at the root of the file system cannot be isolated", path = path.display())]
    AtTheRoot {
        /// Where.
        path: PathBuf,
    },
    /// It cannot be renamed.
    #[error(
        "{path}: something is mounted there, and a restore renames what it replaces: name a \
         directory below it (backup.path)",
        path = path.display()
    )]
    MountPoint {
        /// Where.
        path: PathBuf,
    },
    /// `shared/` cannot be renamed as a whole.
    #[error(
        "{path}: something is mounted there, and a restore renames what it replaces: name what \
         backup.restore fills (backup.paths)",
        path = path.display()
    )]
    NotSetAside {
        /// Where.
        path: PathBuf,
    },
    /// A database has the name under which the present one is to stay.
    #[error(
        "there is a database {database} that no restore has left: rename or drop it, the present \
         data gets its name"
    )]
    NameTaken {
        /// Its name.
        database: String,
    },
    /// Only the owner of a database can rename it.
    #[error(
        "the role does not own the database {database}, and a restore renames it: ALTER DATABASE {database} OWNER TO ..."
    )]
    MayNotRename {
        /// Its name.
        database: String,
    },
    /// The configuration names a variable that the service does not have.
    #[error("{variable} is not in the service's environment")]
    NoUrl {
        /// Its name.
        variable: String,
    },
    /// Its value is not given: it is a secret.
    #[error("{variable} is not postgres://USER@HOST/DATABASE")]
    BadUrl {
        /// Its name.
        variable: String,
    },
    /// A statement of a client that is gone does not end.
    #[error(
        "the database server still works for a client that may be gone: {pids} (pg_stat_activity, SHOW \
             PROCESSLIST)"
    )]
    StillWorks {
        /// Its processes.
        pids: String,
    },
    /// Its value is not given: it is a secret.
    #[error("{variable} is not mysql://USER:PASSWORD@HOST/DATABASE")]
    BadMariaDbUrl {
        /// Its name.
        variable: String,
    },
    /// What ran on a copy has its rights.
    #[error(
        "the user in {variable} is let in no more ({why}): if something that ran on the copy has changed \
         its password (SET PASSWORD), set it back, and drop {database}; until then no copy can be made"
    )]
    CopiesLockedOut {
        /// The variable with its URL.
        variable: String,
        /// What stays.
        database: String,
        /// What the server says.
        why: String,
    },
    /// Programs that are tried on a copy get this user.
    #[error(
        "the user in {variable} can reach more than copies: {rights}; it must have rights on \
         `halley\\_scratch\\_%` and no others"
    )]
    TooManyRights {
        /// The variable with its URL.
        variable: String,
        /// What it should not have.
        rights: String,
    },
    /// The service's role does not see all of a table of its own.
    #[error(
        "pg_dump: {why}\nthe table has FORCE ROW LEVEL SECURITY, which hides rows from its owner too, and a \
         backup without them is none: let a superuser ALTER ROLE ... BYPASSRLS, or ALTER TABLE ... NO \
         FORCE ROW LEVEL SECURITY"
    )]
    HiddenRows {
        /// What the tool says.
        why: String,
    },
    /// The server lets the service's role make no copy.
    #[error("the role may not create databases: ALTER ROLE ... CREATEDB")]
    MayNotCopy,
    /// An extension that the service's role cannot make.
    #[error(
        "pg_restore: {why}\nthe service's role cannot make the extension {name}: let a superuser make a \
         database that has it (CREATE DATABASE name TEMPLATE template0 IS_TEMPLATE true, then CREATE \
         EXTENSION in it), and name it in [service.NAME.backup]: template = \"name\""
    )]
    Extension {
        /// Its name.
        name: String,
        /// What the server says.
        why: String,
    },
    /// A tool or a command was not run to its end; its deadline is one of the reasons.
    #[error(transparent)]
    Task(#[from] CommandError),
    /// It was, and reported a failure.
    #[error("{name}: {}", ended.why())]
    Command {
        /// What it is.
        name: String,
        /// How it ended.
        ended: Ended,
    },
    /// A command on a copy that was kept from what is live.
    #[error("{source}\n{kept_from}")]
    KeptFrom {
        /// How it ended.
        #[source]
        source: Box<DataError>,
        /// From what.
        kept_from: String,
    },
    /// A restore of before goes on.
    #[error("backup.restore of an unfinished restore does not end: {left}")]
    StillRestores {
        /// Its processes.
        left: String,
    },
    /// It reported success, and its work is not there.
    #[error("{tool} reported success, but wrote {wrote}")]
    Empty {
        /// What it is.
        tool: String,
        /// What is there instead.
        wrote: &'static str,
    },
    /// The same, where it is known what was to come.
    #[error("backup.restore reported success, but did not bring {path}")]
    NotBrought {
        /// What is not there.
        path: String,
    },
    /// A backup is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The database does not find itself whole.
    #[error("integrity_check: {said}")]
    NotWhole {
        /// The first line that it printed.
        said: String,
    },
    /// The configured query does not find it good.
    #[error("backup.query: it returned {said:?}")]
    Query {
        /// Its answer.
        said: String,
    },
    /// The schema's probe says nothing.
    #[error("migrate.probe printed nothing")]
    NoVersion,
    /// The schema's probe says more than a version.
    #[error("migrate.probe printed more than one line")]
    ManyVersions,
    /// The migration made another schema than the release provides.
    #[error("after its migration the schema is {after}, not {wanted}")]
    WrongSchema {
        /// What the probe says.
        after: String,
        /// What the release says.
        wanted: String,
    },
}

impl DataError {
    /// Whether the reason is that there is no data.
    pub(crate) fn is_no_data(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::NoTables { .. }
                | Self::NoTablesIn { .. }
                | Self::NoDirectory { .. }
                | Self::SaidNone
        )
    }

    /// For the errors of one file or directory.
    pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    /// What a command that ended left behind, if it reports success.
    pub(super) fn unless_good(name: &str, ended: Ended) -> Result<Ended, Self> {
        if ended.is_good() {
            Ok(ended)
        } else {
            Err(Self::Command { name: name.to_owned(), ended })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::protocol::End;

    #[test]
    fn a_command_that_reports_a_failure_is_named_with_its_last_lines() {
        let ended = |end| Ended { end, output: String::new(), errors: "no space\n".to_owned() };
        assert!(DataError::unless_good("pg_dump", ended(End::Exited(0))).is_ok());
        let error = DataError::unless_good("pg_dump", ended(End::Exited(1))).unwrap_err();
        assert_eq!(error.to_string(), "pg_dump: exit 1: no space");
    }
}

//! SQLite, with its own `sqlite3`: a copy through the backup API, within one read transaction, so
//! that it is of one moment and comes to an end however much is written meanwhile (without the
//! transaction every write by another process begins the copy again).

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::config::backup::sqlite::Sqlite;
use crate::core::ordered::Ordered as _;
use crate::os::beneath::{self, Dir};
use crate::os::exchange::Exchange;
use crate::store::seal::Hashes;
use crate::supervisor::data::context::{self, Context, on_thread};
use crate::supervisor::data::driver::{Counts, Done, Driver, JOURNALS, Place, Taken, Undone};
use crate::supervisor::data::drivers::sql_answer;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::site::Site;

/// How long its commands wait for a writer's lock.
const BUSY_MS: u32 = 30_000;
/// Of a copy that is checked: entries of an index are looked up in no order, each by a read without.
const MAPPED_BYTES: u64 = 1 << 40;
/// What every database file begins with (SQLite file format, 1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";
const COPY: &str = "copy.db";
/// Tables, a name a line, a 1 before the virtual ones: they alone have no page of their own (SQLite file
/// format, 2.6). Digits of `hex()` would be those of the database's encoding.
const TABLES: &str = "SELECT (rootpage = 0) || replace(replace(replace(name, '~', '~0'), char(10), \
                      '~1'), char(13), '~2') FROM sqlite_schema WHERE type = 'table' AND name NOT \
                      LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name;\n";
/// How the tool says that it lacks an extension, or what a program brings itself.
const LACKING: [&str; 6] = [
    "no such collation sequence: ",
    "unknown function: ",
    "no such module: ",
    "no such tokenizer: ",
    "unknown tokenizer: ",
    "vtable constructor failed: ",
];

impl Driver for Sqlite {
    fn tools(&self) -> &'static [&'static str] {
        &["sqlite3"]
    }

    fn live_bytes(&self, shared: &Path) -> Option<u64> {
        Some(shared.join(&self.path).metadata().ok()?.len())
    }

    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done<Taken> {
        let live = context.path(&Site::Live, &self.path);
        if !live.is_file() {
            return Err(DataError::Missing { path: live });
        }
        let copy = dir.join(COPY);
        let script = format!(
            ".timeout {BUSY_MS}\nBEGIN;\nSELECT count(*) FROM sqlite_schema;\n.backup main \"{}\"\n\
             COMMIT;\n",
            // The tool undoes C's escapes between these.
            copy.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")
        );
        let n_tables = sqlite(context, "backup", &live, script).await?;
        if n_tables.trim() == "0" {
            return Err(DataError::NoTables { path: live });
        }
        let mut start = [0; MAGIC.len()];
        let read = Dir::open(dir)
            .and_then(|dir| dir.file(COPY))
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
        match read {
            Ok(()) if start == MAGIC => Ok(Taken::default()),
            _ => Err(DataError::Empty { tool: "sqlite3".to_owned(), wrote: "no database" }),
        }
    }

    fn hashes_what_it_copies(&self) -> bool {
        true
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done<Hashes> {
        let to = context.path(site, &self.path);
        let from = from.join(COPY);
        let system = DataError::at(&to);
        if let (Site::Scratch { dir, .. }, Some(parent)) = (site, to.parent()) {
            context.own_below(dir, parent).map_err(&system)?;
        }
        let (owner, live) = (context.owner(), context.path(&Site::Live, &self.path));
        let copied = to.clone();
        let copy = on_thread(move || {
            let like = Dir::holder(&live).and_then(|(dir, name)| dir.file(&name)).ok();
            let (dir, name) = Dir::holder(&copied)?;
            let mut hashes = Hashes::default();
            let to = To { dir: &dir, name: &name, like: like.as_ref(), owner };
            // A copy that is thrown away needs no room on the disk: it is never synced.
            copy_to(&from, &to, |to, from| {
                beneath::fill_shown(to, from, &mut |bytes| hashes.update(bytes))
            })?;
            hashes.whole(COPY.into());
            Ok(hashes)
        });
        copy.await.map_err(&system)
    }

    async fn replaceable(&self, context: &Context<'_>) -> Done {
        let live = context.path(&Site::Live, &self.path);
        context::renamable(&live, &self.exchange(context)?)
    }

    async fn stage(&self, context: &Context<'_>, from: &Path) -> Done {
        self.replaceable(context).await?;
        let live = context.path(&Site::Live, &self.path);
        let (exchange, from, owner) = (self.exchange(context)?, from.join(COPY), context.owner());
        let copied = on_thread(move || {
            exchange.remove_before()?;
            exchange.remove_staged()?;
            let like = exchange.dir().file(exchange.name()).ok();
            let (dir, name) = (exchange.dir(), &exchange.staged());
            let to = To { dir, name, like: like.as_ref(), owner };
            copy_to(&from, &to, beneath::fill)?.sync_all()?;
            dir.sync()
        });
        copied.await.map_err(DataError::at(&live))
    }

    async fn put(&self, context: &Context<'_>, _from: &Path) -> Done {
        let live = context.path(&Site::Live, &self.path);
        self.exchange(context)?.put().map_err(DataError::at(&live))
    }

    async fn take_back(&self, context: &Context<'_>, _from: &Path) -> Done<Undone> {
        let live = context.path(&Site::Live, &self.path);
        self.exchange(context)?.take_back().map(Undone::from).map_err(DataError::at(&live))
    }

    async fn let_go(&self, context: &Context<'_>) -> Done {
        let live = context.path(&Site::Live, &self.path);
        self.exchange(context)?.remove_before().map_err(DataError::at(&live))
    }

    async fn unstage(&self, context: &Context<'_>, _from: &Path) -> Done {
        let live = context.path(&Site::Live, &self.path);
        self.exchange(context)?.remove_staged().map_err(DataError::at(&live))
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        let file = context.path(site, &self.path);
        // A copy is ours alone: it may be looked at through the page cache, which no writer shrinks.
        let mapped = match site {
            Site::Scratch { .. } => {
                format!(".once /dev/null\nPRAGMA mmap_size = {MAPPED_BYTES};\n")
            }
            Site::Live => String::new(),
        };
        let script = format!(".timeout {BUSY_MS}\n{TABLES}");
        let tables = sqlite(context, "listing tables", &file, script).await?;
        let mut checks = "PRAGMA integrity_check;\n".to_owned();
        let unchecked = unchecked(context, &file, &tables).await?;
        if !unchecked.is_empty() {
            let is_checked = |table: &Table| !unchecked.iter().any(|(it, _)| it.name == table.name);
            checks = Table::real(&tables).filter(is_checked).map(|table| table.check()).collect();
        }
        let script = format!(".timeout {BUSY_MS}\n{mapped}{checks}");
        let said = sqlite(context, "integrity_check", &file, script).await?;
        if let Some(said) = said.lines().find(|line| *line != "ok") {
            return Err(DataError::NotWhole { said: said.to_owned() });
        }
        self.count_in(context, &file, &tables).await
    }

    async fn count(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        self.count_all(context, &context.path(site, &self.path)).await
    }

    async fn aside(&self, context: &Context<'_>) -> Done<Vec<PathBuf>> {
        let live = context.path(&Site::Live, &self.path);
        self.exchange(context)?.aside(&live).map(Vec::from_iter).map_err(DataError::at(&live))
    }

    async fn displaced(&self, context: &Context<'_>, _from: &Path) -> Done<(Counts, Vec<String>)> {
        let Some(aside) = self.aside(context).await?.pop() else { return Ok(Default::default()) };
        Ok((self.count_all(context, &aside).await?, Vec::new()))
    }

    async fn uncounted(&self, context: &Context<'_>, site: &Site) -> Done<Vec<String>> {
        let file = context.path(site, &self.path);
        let script = format!(".timeout {BUSY_MS}\n{TABLES}");
        let tables = sqlite(context, "listing tables", &file, script).await?;
        let uncounted = uncounted(context, &file, &tables).await?.into_iter();
        let unchecked = unchecked(context, &file, &tables).await?.into_iter();
        let told = |what: &str, table: &Table, why| format!("{what}: '{}' ({why})", table.shown());
        let uncounted = uncounted.map(|(table, why)| told("not counted", &table, why));
        let unchecked = unchecked.map(|(table, why)| told("not checked", &table, why));
        Ok(uncounted.chain(unchecked).collect())
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place::File(&self.path))
    }
}

impl Sqlite {
    fn exchange(&self, context: &Context<'_>) -> Done<Exchange> {
        let live = context.path(&Site::Live, &self.path);
        Exchange::at(&live, &JOURNALS).map_err(DataError::at(&live))
    }

    async fn count_all(&self, context: &Context<'_>, file: &Path) -> Done<Counts> {
        let script = format!(".timeout {BUSY_MS}\n{TABLES}");
        let tables = sqlite(context, "listing tables", file, script).await?;
        self.count_in(context, file, &tables).await
    }

    /// Counts the rows of these tables, and asks the configured query.
    async fn count_in(&self, context: &Context<'_>, file: &Path, tables: &str) -> Done<Counts> {
        // A writer's lock is waited for each time.
        let waiting = |script: &str| format!(".timeout {BUSY_MS}\n{script}");
        let uncounted = uncounted(context, file, tables).await?;
        let tables: Vec<_> = Table::all(tables)
            .filter(|table| !uncounted.iter().any(|(other, _)| other.name == table.name))
            .collect();
        let mut script = format!(".timeout {BUSY_MS}\n");
        for (n, table) in tables.iter().enumerate() {
            script.push_str(&format!("SELECT '{n}|' || count(*) FROM {};\n", table.quoted()));
        }
        let counted = sqlite(context, "counting rows", file, script).await?;
        let counts = counted.lines().filter_map(sql_answer::count);
        let named = counts.filter_map(|(n, rows)| {
            let table = tables.get(n.parse::<usize>().ok()?)?;
            Some((table.shown(), rows))
        });
        let counts = named.into_map();
        if let Some(query) = &self.query {
            sql_answer::answered(&sqlite(context, "backup.query", file, waiting(query)).await?)?;
        }
        Ok(counts)
    }
}

/// A table. Its name may hold any character: a name that came into a statement as it is, would be one.
struct Table {
    /// Its rows are another program's business.
    is_virtual: bool,
    name: String,
}

impl Table {
    /// From what [`TABLES`] returns.
    fn all(lines: &str) -> impl Iterator<Item = Self> {
        lines.lines().filter_map(|line| {
            let (is_virtual, name) = (line.starts_with('1'), line.get(1..)?);
            let name = name.replace("~1", "\n").replace("~2", "\r").replace("~0", "~");
            Some(Self { is_virtual, name })
        })
    }

    /// Those that have pages of their own.
    fn real(lines: &str) -> impl Iterator<Item = Self> {
        Self::all(lines).filter(|table| !table.is_virtual)
    }

    fn check(&self) -> String {
        format!("PRAGMA integrity_check({});\n", self.quoted())
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }

    /// For people, in one line.
    fn shown(&self) -> String {
        let one = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
        self.name.chars().map(one).collect()
    }
}

/// Where a copy is to be, and whose.
struct To<'a> {
    dir: &'a Dir,
    name: &'a OsStr,
    /// It gets the owner, mode and attributes of this one; else it belongs to the owner.
    like: Option<&'a File>,
    owner: Option<(u32, u32)>,
}

/// Copies a file. Nothing that has the name is written to: it may be a link that somebody put there.
fn copy_to(
    from: &Path,
    to: &To<'_>,
    fill: impl FnOnce(&File, &File) -> std::io::Result<u64>,
) -> std::io::Result<File> {
    let (backup, copied) = Dir::parent(from)?;
    to.dir.remove_file(to.name)?;
    let file = to.dir.create(to.name, 0o600)?;
    fill(&file, &backup.file(&copied)?)?;
    match (to.like, to.owner) {
        (Some(like), _) => beneath::liken(&file, &like.metadata()?, like)?,
        (None, Some((user, group))) => beneath::give(&file, (Some(user), Some(group)))?,
        (None, None) => {}
    }
    Ok(file)
}

/// Tables that the tool cannot work with, with its reasons.
type Lacking = Vec<(Table, String)>;

/// Virtual tables whose code only the service has, as an extension. Their rows lie in other tables, or not
/// in the database at all.
async fn uncounted(context: &Context<'_>, file: &Path, tables: &str) -> Done<Lacking> {
    let mut found = Vec::new();
    for table in Table::all(tables).filter(|table| table.is_virtual) {
        let script = format!("SELECT 1 FROM {} LIMIT 0;\n", table.quoted());
        let why = what_is_lacking(context, "opening a virtual table", file, &script).await?;
        found.extend(why.map(|why| (table, why)));
    }
    Ok(found)
}

/// Tables with a collation or a function in an index or a column that only the service has: their rows
/// are counted. Each of them is looked for only when there is one.
async fn unchecked(context: &Context<'_>, file: &Path, tables: &str) -> Done<Lacking> {
    let mut found = Vec::new();
    let explain = |check: &str| format!(".once /dev/null\nEXPLAIN {check}");
    let all = explain("PRAGMA integrity_check;\n");
    if what_is_lacking(context, "preparing a check", file, &all).await?.is_none() {
        return Ok(found);
    }
    for table in Table::real(tables) {
        let script = explain(&table.check());
        let why = what_is_lacking(context, "preparing a check", file, &script).await?;
        found.extend(why.map(|why| (table, why)));
    }
    Ok(found)
}

async fn what_is_lacking(
    context: &Context<'_>,
    what: &str,
    file: &Path,
    script: &str,
) -> Done<Option<String>> {
    match sqlite(context, what, file, format!(".timeout {BUSY_MS}\n{script}")).await {
        Ok(_) => Ok(None),
        Err(DataError::Command { name, ended }) => match lacks(&ended.errors) {
            Some(why) => Ok(Some(why)),
            None => Err(DataError::Command { name, ended }),
        },
        Err(other) => Err(other),
    }
}

/// What the tool lacks, if that is its error.
fn lacks(errors: &str) -> Option<String> {
    let end = |at: usize| errors[at..].lines().next().unwrap_or_default().to_owned();
    LACKING.iter().find_map(|text| errors.find(text)).map(end)
}

async fn sqlite(context: &Context<'_>, name: &str, file: &Path, script: String) -> Done<String> {
    // The tool would make an empty one.
    if !file.is_file() {
        return Err(DataError::Missing { path: file.to_owned() });
    }
    let file = file.to_string_lossy();
    let words = ["sqlite3", "-batch", "-bail", "-noheader", "-list", file.as_ref()];
    context.run(name, &words, Vec::new(), Some(script)).await.map(|ended| ended.output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::beneath::tests::{UID, World};

    #[test]
    fn a_restore_writes_through_nothing_that_its_user_planted() {
        let Some(world) = World::new() else { return };
        let secret = world.roots.join("secret");
        for name in [COPY, "app.db", "app.db.restored", ".app.db.restored", "app.db-wal"] {
            world.link(name, &secret);
        }
        world.link("moved", &world.roots);
        std::fs::write(world.roots.join(COPY), "data").unwrap();
        let (from, owner) = (world.roots.join(COPY), Some((UID, UID)));
        let put = |from: &Path, to: &Path| {
            let exchange = Exchange::at(to, &JOURNALS)?;
            exchange.remove_staged()?;
            let like = exchange.dir().file(exchange.name()).ok();
            let (dir, name) = (exchange.dir(), &exchange.staged());
            copy_to(from, &To { dir, name, like: like.as_ref(), owner }, beneath::fill)?;
            exchange.put()?;
            exchange.remove_before()
        };
        // The name is a link to root's file; the directory is one to root's directory; and the
        // backup itself was exchanged.
        for (from, to) in [
            (&from, world.users.join("app.db")),
            (&from, world.users.join("moved/app.db")),
            (&world.users.join(COPY), world.users.join("new.db")),
        ] {
            assert!(put(from, &to).is_err(), "{}", to.display());
        }
        let to = world.users.join("live.db");
        for name in [".live.db.restored", "live.db-wal", "live.db-journal"] {
            world.link(name, &secret);
        }
        put(&from, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "data");
        assert!(std::fs::symlink_metadata(world.users.join("live.db-wal")).is_err());
        assert!(world.is_untouched() && !world.roots.join("app.db").exists());
        let left = std::fs::read_dir(&world.users).unwrap().flatten();
        assert_eq!(left.filter(|e| e.file_name().len() > 18).count(), 0, "no copy is left");
    }

    /// What SQLite says to a script.
    fn said(file: &Path, script: &str) -> String {
        let mut command = std::process::Command::new("sqlite3");
        let said = command.args(["-batch", "-bail"]).arg(file).arg(script).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// A process that is killed in a transaction, of which a part is in the database already.
    fn leave_a_hot_journal(file: &Path) {
        let script = "PRAGMA cache_size = 1;\nBEGIN IMMEDIATE;\nUPDATE rows SET note = 'y';\n\
                      CREATE TABLE more AS WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 \
                      FROM n WHERE i < 9999) SELECT i, hex(randomblob(99)) FROM n;\n.print ready\n";
        let mut command = std::process::Command::new("sqlite3");
        command.arg("-batch").arg(file);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, script.as_bytes()).unwrap();
        let mut ready = [0; 5];
        let stdout = child.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut ready).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_hot_journal_is_not_played_into_what_is_restored_and_comes_back_with_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (live, staged) = (dir.path().join("app.db"), dir.path().join(".app.db.restored"));
        let rows = "CREATE TABLE rows (note TEXT); INSERT INTO rows VALUES ('x')";
        said(&staged, &format!("{rows}, ('x');"));
        said(&live, &format!("{rows}, ('x'), ('x'), ('x');"));
        leave_a_hot_journal(&live);
        assert!(dir.path().join("app.db-journal").metadata().unwrap().len() > 512);
        let look = "PRAGMA integrity_check; SELECT note, count(*) FROM rows GROUP BY note;";
        let exchange = Exchange::at(&live, &JOURNALS).unwrap();
        exchange.put().unwrap();
        assert_eq!(said(&live, look), "ok\nx|2\n");
        exchange.take_back().unwrap();
        assert_eq!(said(&live, look), "ok\nx|4\n", "it is rolled back by its own journal");
    }

    #[test]
    fn only_an_extension_may_be_lacking() {
        let said = lacks("Parse error near line 2: no such module: vec0\n  SELECT 1\n");
        assert_eq!(said.as_deref(), Some("no such module: vec0"));
        assert_eq!(lacks("Error: database disk image is malformed"), None);
    }

    #[test]
    fn a_name_may_have_any_character() {
        let names = ["a\"b", "~", "~1", "a\nb", "\r", "\u{e4}\u{1d11e}", ""];
        for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("app.db");
            let create =
                |name: &&str| format!("CREATE TABLE \"{}\" (x);", name.replace('"', "\"\""));
            let tables: String = names.iter().map(create).collect();
            said(&file, &format!("PRAGMA encoding = '{encoding}';{tables}"));
            let mut read: Vec<_> =
                Table::all(&said(&file, TABLES)).map(|table| table.name).collect();
            let mut expected = names.map(str::to_owned);
            read.sort();
            expected.sort();
            assert_eq!(read, expected, "{encoding}");
        }
    }
}

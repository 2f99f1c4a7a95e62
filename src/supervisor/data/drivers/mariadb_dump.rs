//! Dumps of MariaDB, and the tools that write and read them. What has a definer is in files of its
//! own: it is made by another user on a copy, and after the exchange of the tables in a restore.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::os::beneath::Dir;
use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::mariadb_url::Url;
use crate::supervisor::data::error::DataError;

/// Tables with their rows.
pub(super) const DATA: &str = "data.sql";
/// What has a definer, in the order in which one needs the other.
pub(super) const PROGRAMS: [&str; 3] = ["programs.sql", "views.sql", "events.sql"];
/// The database itself, with its character set.
pub(super) const DATABASE: &str = "database.sql";
/// With this a dump removes a routine before it makes it; the second is for MySQL alone (MariaDB,
/// "Comment Syntax").
const REMOVES: &str = "/*!50003 DROP ";
const MYSQL_REMOVES: &str = "/*!50700 DROP ";
/// How a dump ends that is whole.
const END: &str = "-- Dump completed";
const END_BYTES: i64 = 200;

/// Writes the tables, as they are at one moment.
pub(super) async fn dump_data(context: &Context<'_>, live: &Url, dir: &Path) -> Done {
    let (tables, views) = tables(context, live).await?;
    if tables == 0 {
        return Err(DataError::NoTablesIn { database: live.database.clone() });
    }
    let options = ["--single-transaction", "--hex-blob", "--skip-triggers"].map(str::to_owned);
    let options = [&options[..], &ignoring(live, &views)].concat();
    dump(context, live, &dir.join(DATA), &options, &[]).await?;
    let options = ["--no-data", "--no-create-info", "--skip-triggers", "--databases"];
    dump(context, live, &dir.join(DATABASE), &options.map(str::to_owned), &[]).await
}

/// Writes triggers and routines, views, and events.
pub(super) async fn dump_programs(context: &Context<'_>, live: &Url, dir: &Path) -> Done {
    let (_, views) = tables(context, live).await?;
    let [programs, only_views, events] = PROGRAMS.map(|file| dir.join(file));
    let with = |more: [&str; 2]| {
        let options = ["--no-data", "--no-create-info"].into_iter().chain(more);
        let options: Vec<String> = options.map(str::to_owned).collect();
        [options, ignoring(live, &views)].concat()
    };
    dump(context, live, &programs, &with(["--triggers", "--routines"]), &[]).await?;
    if !views.is_empty() {
        let options = ["--no-data", "--skip-triggers"].map(str::to_owned);
        dump(context, live, &only_views, &options, &views).await?;
    }
    // The last one: where it is, all are.
    dump(context, live, &events, &with(["--skip-triggers", "--events"]), &[]).await
}

/// How many tables there are, and the names of the views.
async fn tables(context: &Context<'_>, live: &Url) -> Done<(usize, Vec<String>)> {
    let list = format!(
        "SELECT HEX(table_name), table_type FROM information_schema.tables WHERE table_schema = {};\n",
        text(&live.database)
    );
    let said = ask(context, live, "", "listing tables", &list).await?;
    let rows = said.lines().filter_map(|line| line.rsplit_once('\t'));
    let (views, tables): (Vec<_>, Vec<_>) = rows.partition(|(_, kind)| *kind == "VIEW");
    Ok((tables.len(), views.into_iter().filter_map(|(hex, _)| unhex(hex)).collect()))
}

/// A name out of `HEX()`: it may have a newline in it.
pub(super) fn unhex(hex: &str) -> Option<String> {
    let byte = |at| hex.get(at..at + 2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

fn ignoring(live: &Url, views: &[String]) -> Vec<String> {
    views.iter().map(|view| format!("--ignore-table={}.{view}", live.database)).collect()
}

/// Whether there is such a dump.
pub(super) fn exists(path: &Path) -> Done<bool> {
    match Dir::parent(path).and_then(|(dir, name)| dir.look(&name)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DataError::at(path)(error)),
    }
}

/// That of the live database, as a clause; nothing when that is the one that is missing.
pub(super) async fn charset(context: &Context<'_>, live: &Url) -> String {
    let query = format!(
        "SELECT CONCAT(' CHARACTER SET ', default_character_set_name, ' COLLATE ', \
         default_collation_name) FROM information_schema.schemata WHERE schema_name = {};\n",
        text(&live.database)
    );
    let said = ask(context, live, "", "character set", &query).await.unwrap_or_default();
    said.lines().next().unwrap_or_default().to_owned()
}

async fn dump(
    context: &Context<'_>,
    url: &Url,
    to: &Path,
    options: &[String],
    tables: &[String],
) -> Done {
    let mut words = url.args("mariadb-dump");
    words.extend(["--no-tablespaces".to_owned(), format!("--result-file={}", to.display())]);
    words.extend(options.iter().chain([&url.database]).chain(tables).cloned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    context.run("mariadb-dump", &words, url.env(), None).await?;
    if read_end(to).map_err(DataError::at(to))?.contains(END) {
        return Ok(());
    }
    Err(DataError::Empty { tool: "mariadb-dump".to_owned(), wrote: "half a dump" })
}

fn read_end(path: &Path) -> io::Result<String> {
    let (dir, name) = Dir::parent(path)?;
    let mut file = dir.file(&name)?;
    let length = i64::try_from(file.metadata()?.len()).unwrap_or(0);
    file.seek(SeekFrom::End(-length.min(END_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs the statements of a file.
pub(super) async fn source(context: &Context<'_>, url: &Url, database: &str, path: &Path) -> Done {
    let script = format!("source {}\n", path.display());
    ask(context, url, database, "restoring", &script).await.map(drop)
}

/// What statements print, a row a line.
pub(super) async fn ask(
    context: &Context<'_>,
    url: &Url,
    database: &str,
    what: &str,
    script: &str,
) -> Done<String> {
    let mut words = url.args("mariadb");
    let plain = ["--batch", "--raw", "--skip-column-names", "--abort-source-on-error"];
    words.extend(plain.map(str::to_owned));
    words.push(format!("--database={database}"));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = context.run(what, &words, url.env(), Some(script.to_owned())).await?;
    Ok(ended.output)
}

/// A dump of views and their like, where there is one.
pub(super) fn read(path: &Path) -> Done<Option<String>> {
    let mut bytes = Vec::new();
    let opened = Dir::parent(path).and_then(|(dir, name)| dir.file(&name));
    match opened.and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataError::at(path)(error)),
    }
}

/// Whoever runs the statements is the definer. A dump names it at the start of a line, in one of
/// these forms.
pub(super) fn without_definers(script: &str) -> String {
    let starts =
        ["/*!50013 ", "/*!50003 CREATE*/ /*!50017 ", "/*!50106 CREATE*/ /*!50117 ", "CREATE "];
    let mut out = String::new();
    for line in script.split_inclusive('\n') {
        let rest = starts.iter().find_map(|start| {
            let rest = line.strip_prefix(start)?.strip_prefix("DEFINER=")?;
            Some((start, after_account(rest)?))
        });
        match rest {
            Some((start, rest)) => out.extend([start, rest]),
            None => out.push_str(line),
        }
    }
    out
}

/// The statement of a dump that makes this database.
pub(super) fn creating(script: &str, database: &str) -> Option<String> {
    let is_it =
        |line: &&str| line.starts_with("CREATE DATABASE ") && line.contains(&name(database));
    script.lines().find(is_it).map(|line| format!("{line}\n"))
}

/// Routines are replaced, not removed first: the rights on them stay. MySQL cannot do that.
pub(super) fn replacing(script: &str) -> String {
    let replaced = |line: &str| {
        if let Some(rest) = line.strip_prefix(REMOVES).filter(|rest| routine(rest).is_some()) {
            return format!("{MYSQL_REMOVES}{rest}");
        }
        let rest = line.strip_prefix("CREATE DEFINER=");
        let is_routine = rest.and_then(after_account).is_some_and(|rest| {
            [" PROCEDURE ", " FUNCTION "].iter().any(|kind| rest.starts_with(kind))
        });
        match rest {
            Some(rest) if is_routine => format!("CREATE /*M! OR REPLACE */ DEFINER={rest}"),
            _ => line.to_owned(),
        }
    };
    script.split_inclusive('\n').map(replaced).collect()
}

/// Of statements that remove things, those whose routines a dump does not make again.
pub(super) fn unreplaced(unmake: &str, script: &str) -> String {
    let made: Vec<String> = script
        .lines()
        .filter_map(|line| routine(line.strip_prefix(REMOVES)?))
        .map(|(kind, name)| format!("DROP {kind} {name};"))
        .collect();
    let left = unmake.lines().filter(|line| !made.iter().any(|made| made == line));
    left.map(|line| format!("{line}\n")).collect()
}

/// What is removed by `` PROCEDURE IF EXISTS `name` */; ``: its kind and its name.
fn routine(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.split_once(" IF EXISTS ")?;
    let name = rest.trim_end().strip_suffix(" */;")?;
    ["PROCEDURE", "FUNCTION"].contains(&kind).then_some((kind, name))
}

/// What comes behind `` `user`@`host` ``, or `"user"@"host"` where `sql_mode` has `ANSI_QUOTES`.
fn after_account(text: &str) -> Option<&str> {
    let rest = after_quoted(text)?;
    after_quoted(rest.strip_prefix('@')?)
}

fn after_quoted(text: &str) -> Option<&str> {
    let quote = ['`', '"'].into_iter().find(|quote| text.starts_with(*quote))?;
    let mut rest = text.strip_prefix(quote)?;
    loop {
        rest = rest.split_once(quote)?.1;
        match rest.strip_prefix(quote) {
            Some(more) => rest = more,
            None => return Some(rest),
        }
    }
}

pub(super) fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_newline() {
        assert_eq!(unhex("610AC3A4").as_deref(), Some("a\n\u{e4}"));
        assert_eq!((unhex("6"), unhex("zz"), unhex("ff")), (None, None, None));
    }

    #[test]
    fn routines_are_replaced_and_only_those_that_are_not_made_again_removed() {
        let script = "/*!50003 DROP PROCEDURE IF EXISTS `p` */;\nDELIMITER ;;\n\
                      CREATE DEFINER=`a`@`b` PROCEDURE `p`()\nselect 1 ;;\nDELIMITER ;\n\
                      /*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER t */;;\n";
        let expected = "/*!50700 DROP PROCEDURE IF EXISTS `p` */;\nDELIMITER ;;\n\
                        CREATE /*M! OR REPLACE */ DEFINER=`a`@`b` PROCEDURE `p`()\nselect 1 ;;\n\
                        DELIMITER ;\n\
                        /*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER t */;;\n";
        assert_eq!(replacing(script), expected);
        let unmake = "DROP PROCEDURE `p`;\nDROP FUNCTION `p`;\nDROP VIEW `v`;\n";
        assert_eq!(unreplaced(unmake, script), "DROP FUNCTION `p`;\nDROP VIEW `v`;\n");
    }

    #[test]
    fn definers_are_left_out_and_nothing_else() {
        for (line, expected) in [
            (
                "/*!50013 DEFINER=`web`@`%` SQL SECURITY DEFINER */\n",
                "/*!50013  SQL SECURITY DEFINER */\n",
            ),
            (
                "/*!50003 CREATE*/ /*!50017 DEFINER=`w``b`@`10.%`*/ /*!50003 TRIGGER t */;;\n",
                "/*!50003 CREATE*/ /*!50017 */ /*!50003 TRIGGER t */;;\n",
            ),
            ("CREATE DEFINER=`a`@`b` PROCEDURE `p`()\n", "CREATE  PROCEDURE `p`()\n"),
            ("  SET x = 'CREATE DEFINER=`a`@`b`';\n", "  SET x = 'CREATE DEFINER=`a`@`b`';\n"),
            ("CREATE DEFINER=\"a\"\"b\"@\"%\" FUNCTION f()\n", "CREATE  FUNCTION f()\n"),
            ("CREATE DEFINER=`a", "CREATE DEFINER=`a"),
        ] {
            assert_eq!(without_definers(line), expected);
        }
    }
}

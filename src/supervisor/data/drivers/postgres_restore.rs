//! The contents of a dump are put into a database that is empty. Objects get their owners back where
//! the service's role may give them away; what only another role could make is left out, and seen when
//! the two databases are compared.

use std::path::Path;

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::postgres_tools::{DUMP, psql_quiet};
use crate::supervisor::data::drivers::postgres_url::Url;
use crate::supervisor::data::error::DataError;

/// Roles as which this one may act, itself first.
const ROLES: &str = "SELECT current_user UNION ALL SELECT rolname FROM pg_roles WHERE rolname <> \
                     current_user AND pg_has_role(oid, 'USAGE') AND pg_has_role(oid, CASE WHEN \
                     current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)";
/// Prints the entries of a dump that may have to be left out, and then the owners of the others. The
/// list is as long as there are objects: it is kept in a file.
const LIST: &str = r#"set -e
list=$(mktemp)
trap 'rm -f "$list"' EXIT
pg_restore --list --file="$list" "$1"
some='^[0-9]+; [0-9]+ [0-9]+ (COMMENT - (EXTENSION|SUBSCRIPTION|PUBLICATION|EVENT TRIGGER)|SUBSCRIPTION|PUBLICATION|EVENT TRIGGER|DEFAULT ACL) '
sed -nE "/$some/p" "$list"
sed -E "/^;/d; /$some/d; /^[0-9]+; [0-9]+ [0-9]+ (ACL|COMMENT) /d; s/.* /owner /" "$list" | sort -u
"#;
/// Restores a dump without some entries, `$1`. All is the service's role's then.
const RESTORE: &str = r#"set -e
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
pg_restore --list --file="$dir/list" "$3"
[ -z "$1" ] || sed -i -E "/^($1);/d" "$dir/list"
pg_restore --use-list="$dir/list" --exit-on-error --no-owner --dbname="$2" "$3"
"#;
/// Then gives it to its owners, which may only now have the rights that they need for it, and makes the
/// grants again: those to the role itself had no meaning as long as it was the owner. A line with a
/// backslash may come out of a name with a newline, and would be a command for psql (`\!`).
const GIVE: &str = r#"
sed -E '/^[0-9]+; [0-9]+ [0-9]+ (TABLE DATA|BLOBS|SEQUENCE SET) /d' "$dir/list" > "$dir/made"
pg_restore --use-list="$dir/made" --file="$dir/script" "$3"
sed -nE '/\\/d; /^ALTER [A-Z ]+ .* OWNER TO .*;$/p' "$dir/script" > "$dir/owners"
psql -X -q -d "$2" -f "$dir/owners"
sed -nE '/^[0-9]+; [0-9]+ [0-9]+ ACL /p' "$dir/list" > "$dir/rights"
[ ! -s "$dir/rights" ] ||
    pg_restore --use-list="$dir/rights" --exit-on-error --no-owner --dbname="$2" "$3"
"#;
/// What belongs to the role that may act as its owner, or is left out.
const OTHERS: [&str; 5] = [
    "EVENT TRIGGER ",
    "COMMENT - EVENT TRIGGER ",
    "PUBLICATION ",
    "COMMENT - PUBLICATION ",
    "DEFAULT ACL ",
];
const MAKES_EXTENSION: &str = "CREATE EXTENSION IF NOT EXISTS ";

/// Whose the objects in a dump are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owners {
    /// The service's role's, and those of roles as which it may not act.
    Ours,
    /// Also those of roles as which it may act.
    Several,
}

/// What of a dump the service's role can restore.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Numbers of entries that it cannot.
    left_out: Vec<String>,
    owners: Owners,
}

/// What of a dump the service's role can restore.
pub(super) async fn choose(context: &Context<'_>, url: &Url, from: &Path) -> Done<Choice> {
    let roles = psql_quiet(context, url, url.maintenance(), "roles", ROLES).await?;
    let dump = from.join(DUMP);
    let words = ["sh", "-c", LIST, "sh", &dump.to_string_lossy()];
    let listed = context.run_quietly("pg_restore", &words, Vec::new(), None).await?;
    Ok(chosen(&listed.output, &roles.lines().collect::<Vec<_>>()))
}

/// Fills a database with it.
pub(super) async fn load(
    context: &Context<'_>,
    url: &Url,
    from: &Path,
    choice: &Choice,
    database: &str,
) -> Done {
    let (dump, left_out) = (from.join(DUMP), choice.left_out.join("|"));
    let script = match choice.owners {
        Owners::Ours => RESTORE.to_owned(),
        Owners::Several => format!("{RESTORE}{GIVE}"),
    };
    let words = ["sh", "-c", &script, "sh", &left_out, database, &dump.to_string_lossy()];
    match context.run("pg_restore", &words, url.env(database), None).await {
        Ok(_) => Ok(()),
        Err(DataError::Command { ended, .. }) if extension(&ended.errors).is_some() => {
            let name = extension(&ended.errors).unwrap_or_default().to_owned();
            Err(DataError::Extension { name, why: ended.why() })
        }
        Err(error) => Err(error),
    }
}

/// The extension whose making failed.
fn extension(errors: &str) -> Option<&str> {
    let (_, rest) = errors.split_once(MAKES_EXTENSION)?;
    let end = rest.find([' ', ';', '\n']).unwrap_or(rest.len());
    Some(rest[..end].trim_matches('"'))
}

/// Chooses among entries; `roles` are those as which this one may act, itself first.
fn chosen(said: &str, roles: &[&str]) -> Choice {
    let mut choice = Choice { left_out: Vec::new(), owners: Owners::Ours };
    let others = roles.get(1..).unwrap_or_default();
    for line in said.lines() {
        if let Some(owner) = line.strip_prefix("owner ") {
            if others.contains(&owner) {
                choice.owners = Owners::Several;
            }
            continue;
        }
        // "3344; 6104 16398 PUBLICATION - all postgres"
        let entry = line.splitn(4, ' ').nth(3).unwrap_or_default();
        let is_of_others = OTHERS.iter().any(|kind| entry.starts_with(kind));
        let is_ours = roles
            .iter()
            .any(|role| entry.strip_suffix(*role).is_some_and(|before| before.ends_with(' ')));
        // Comments of extensions that somebody else has made, and what would fetch the data of another
        // server, are never part of a restore.
        if !is_of_others || !is_ours {
            choice.left_out.extend(line.split_once(';').map(|(number, _)| number.to_owned()));
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: &str = "3344; 6104 16398 PUBLICATION - pall postgres\n\
                           3358; 0 0 COMMENT - PUBLICATION pall postgres\n\
                           2037; 826 16400 DEFAULT ACL shop DEFAULT PRIVILEGES FOR TABLES postgres\n\
                           2038; 826 16401 DEFAULT ACL shop DEFAULT PRIVILEGES FOR TABLES web\n\
                           3201; 3466 16397 EVENT TRIGGER - ev postgres\n\
                           3202; 0 0 COMMENT - EXTENSION hstore \n\
                           3203; 6100 16402 SUBSCRIPTION - sub web\n\
                           owner \nowner alice\nowner web\n";

    #[test]
    fn what_only_others_could_make_is_left_out() {
        let check = |roles: &[&str], left_out: &[&str], owners| {
            let left_out = left_out.iter().map(|number| (*number).to_owned()).collect();
            assert_eq!(chosen(ENTRIES, roles), Choice { left_out, owners });
        };
        let all = ["3344", "3358", "2037", "3201", "3202", "3203"];
        check(&["web", "alice"], &all, Owners::Several);
        check(&["web"], &all, Owners::Ours);
        check(&["web", "alice", "postgres"], &["3202", "3203"], Owners::Several);
    }

    #[test]
    fn the_extension_that_could_not_be_made_is_named() {
        let said = "ERROR:  permission denied\nCommand was: CREATE EXTENSION IF NOT EXISTS file_fdw \
                    WITH SCHEMA public;\n";
        assert_eq!(extension(said), Some("file_fdw"));
        assert_eq!(extension("CREATE EXTENSION IF NOT EXISTS \"a-b\";"), Some("a-b"));
        assert_eq!(extension("ERROR:  permission denied"), None);
    }
}

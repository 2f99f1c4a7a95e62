//! Anything else, by commands: `take` fills `HALLEY_BACKUP_DIR`, `restore` brings it to
//! `HALLEY_SHARED`, which is a scratch directory in a rehearsal, and `check` says whether what is
//! there is whole.

use std::path::Path;

use crate::supervisor::data::backup::{Counts, Hand, Site};

const DIR: &str = "HALLEY_BACKUP_DIR";

pub(crate) async fn take(hand: &Hand<'_>, words: &[String], dir: &Path) -> Result<(), String> {
    run(hand, "backup.take", words, vec![variable(dir)]).await
}

pub(crate) async fn restore(
    hand: &Hand<'_>,
    words: &[String],
    from: &Path,
    site: &Site,
) -> Result<(), String> {
    let mut env = hand.env(site, &hand.settings);
    env.push(variable(from));
    run(hand, "backup.restore", words, env).await
}

pub(crate) async fn inspect(
    hand: &Hand<'_>,
    words: Option<&[String]>,
    site: &Site,
) -> Result<Counts, String> {
    if let Some(words) = words {
        run(hand, "backup.check", words, hand.env(site, &hand.settings)).await?;
    }
    Ok(Counts::new())
}

async fn run(
    hand: &Hand<'_>,
    name: &str,
    words: &[String],
    env: Vec<(String, String)>,
) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    hand.run(name, &words, env, None).await.map(drop)
}

fn variable(dir: &Path) -> (String, String) {
    (DIR.to_owned(), dir.to_string_lossy().into_owned())
}

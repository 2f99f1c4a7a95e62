//! The history, `history.ndjson`: user, action, time and outcome of each finished operation, one a
//! line, for people.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::api::HistoryEntry;
use crate::json;

/// Appends a finished operation and waits for the disk; half a line is taken back.
///
/// # Errors
/// The system's.
pub fn append(path: &Path, entry: &HistoryEntry) -> io::Result<()> {
    let mut text = json::to_vec(entry)?;
    text.push(b'\n');
    let mut file = File::options().read(true).append(true).create(true).open(path)?;
    let len = file.metadata()?.len();
    let mut last = *b"\n";
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last != *b"\n" {
        text.insert(0, b'\n');
    }
    file.write_all(&text).inspect_err(|_| drop(file.set_len(len)))?;
    file.sync_data()
}

/// The newest operations first. An unreadable line (a torn tail) is skipped.
///
/// # Errors
/// The system's.
pub fn read(path: &Path, service: Option<&str>, limit: usize) -> io::Result<Vec<HistoryEntry>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let entries = text.lines().rev().filter_map(|line| json::from_slice(line.as_bytes()).ok());
    // A set's line names all its services.
    let names = |entry: &HistoryEntry, name| entry.service.split(',').any(|own| own == name);
    let wanted = |entry: &HistoryEntry| service.is_none_or(|name| names(entry, name));
    Ok(entries.filter(wanted).take(limit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_version_1_loads_for_ever_and_a_torn_tail_costs_one_line() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/history-v1.ndjson");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.ndjson");
        std::fs::copy(fixture, &path).unwrap();
        let all = read(&path, None, 10).unwrap();
        assert_eq!(all.iter().map(|entry| entry.op).collect::<Vec<_>>(), [108, 107]);
        append(&path, &all[0]).unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        assert_eq!(read(&path, Some("web"), 1).unwrap().len(), 1);
        assert_eq!(read(&path, Some("api"), 10).unwrap().len(), 0);
        let set = HistoryEntry { service: "api,web".to_owned(), ..all[0].clone() };
        std::fs::write(&path, "").unwrap();
        append(&path, &set).unwrap();
        let n_lines = |name| read(&path, Some(name), 10).unwrap().len();
        assert_eq!(["api", "web", "we"].map(n_lines), [1, 1, 0]);
    }
}

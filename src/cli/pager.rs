//! The reader's pager, where there is one. No shell in between: words are split at spaces.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Shows a text in the pager; whether there was one.
pub fn page(text: &str) -> bool {
    let variable = |name: &str| std::env::var(name).ok();
    let words = command(variable("HALLEY_PAGER"), variable("PAGER"));
    let Some((program, args)) = words.split_first() else { return false };
    // Ctrl-C is the pager's while it runs: it must not outlive this process on the terminal.
    let caught = Arc::new(AtomicBool::new(false));
    drop(signal_hook::flag::register(signal_hook::consts::SIGINT, caught));
    let mut pager = Command::new(program);
    pager.args(args).stdin(Stdio::piped());
    if std::env::var_os("LESS").as_deref().is_none_or(OsStr::is_empty) {
        // `PAGER=less` alone would show escape sequences instead of bold headings.
        pager.env("LESS", "FRX");
    }
    let Ok(mut child) = pager.spawn() else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // The pager closes the pipe early when the user quits it.
        drop(stdin.write_all(text.as_bytes()));
    }
    child.wait().is_ok()
}

/// The pager's words; none when a variable is set to nothing or to `cat`.
fn command(halley: Option<String>, general: Option<String>) -> Vec<String> {
    let text = halley.or(general).unwrap_or_else(|| "less -FRX".to_owned());
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if words == ["cat"] { Vec::new() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halleys_own_variable_wins_and_an_empty_one_means_none() {
        let text = |text: &str| Some(text.to_owned());
        for (halley, general, expected) in [
            (None, None, "less -FRX"),
            (None, text("more"), "more"),
            (text("most -s"), text("more"), "most -s"),
            (text(""), text("more"), ""),
            (None, text("cat"), ""),
        ] {
            assert_eq!(command(halley, general).join(" "), expected);
        }
    }
}

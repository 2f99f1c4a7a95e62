//! Mounts of the tests.

use std::path::Path;
use std::process::Command;

/// A mount that ends with the test.
pub struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    pub fn tmpfs(at: &'a Path, size: &str) -> Self {
        let options = format!("size={size}");
        Self::of(&["-t", "tmpfs", "-o", &options, "none"], at)
    }

    /// Nothing can be written below it.
    pub fn read_only(at: &'a Path) -> Self {
        Self::of(&["-o", "ro,bind", &at.to_string_lossy()], at)
    }

    pub fn of(words: &[&str], at: &'a Path) -> Self {
        let done = Command::new("mount").args(words).arg(at).status().unwrap();
        assert!(done.success());
        Self(at)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

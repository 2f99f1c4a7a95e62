//! nginx: an include file with the servers of an upstream, tested, then reloaded.
//!
//! A failure at any step brings the old file back ([`crate::supervisor::proxy::nginx_include`]). A reload loses no fresh
//! connection; the workers that leave close those that are idle.

use std::io;
use std::path::Path;

use crate::config::proxy::nginx::Nginx;
use crate::supervisor::proxy::driver::{Driver, Host, Upstream, Work};
use crate::supervisor::proxy::error::EntryError;
use crate::supervisor::proxy::nginx_include::{Include, file_error};

/// The include file's first line.
const HEAD: &str = "# Written by halley-sup at each flip; what is changed here is lost.\n";

impl Driver for Nginx {
    fn check<'a>(&'a self, _n_upstreams: usize, host: &'a dyn Host) -> Work<'a, String> {
        Box::pin(check(&self.file, &self.test, host))
    }

    fn flip<'a>(&'a self, upstreams: &'a [Upstream], host: &'a dyn Host) -> Work<'a, ()> {
        Box::pin(flip(self, upstreams, host))
    }
}

/// Whether the file's directory may be written and nginx's own test passes.
///
/// # Errors
/// [`EntryError`].
async fn check(file: &Path, test: &[String], host: &dyn Host) -> Result<String, EntryError> {
    let include = Include::of(file);
    let dir = include.file.parent().unwrap_or(Path::new("/")).to_owned();
    tempfile::NamedTempFile::new_in(&dir).map_err(|error| {
        let next = format!("halley-sup writes {} there", include.file.display());
        file_error(&dir, error, next)
    })?;
    include.content()?.ok_or_else(|| {
        let next = format!(
            "include it in the upstream's block and begin with: echo 'server 127.0.0.1:9;' > {}",
            include.file.display()
        );
        file_error(&include.file, io::ErrorKind::NotFound.into(), next)
    })?;
    host.run(test, &[]).await?;
    Ok(format!("nginx: {} may be written, and {} passes", include.file.display(), test.join(" ")))
}

/// Writes the file, tests and reloads.
///
/// # Errors
/// [`EntryError`]; the old file is back, and after a failed reload the reload was run once more.
async fn flip(nginx: &Nginx, upstreams: &[Upstream], host: &dyn Host) -> Result<(), EntryError> {
    let Nginx { file, test, reload } = nginx;
    let include = Include::of(file);
    let wanted = render(upstreams);
    let now = include.content()?;
    if now.as_deref() == Some(&wanted) && !include.was_cut_short() {
        return Ok(());
    }
    include.keep_before(now.as_deref())?;
    // From here on a failure leads back.
    let mut done = include.replace(&wanted);
    if done.is_ok() {
        done = host.run(test, &[]).await;
    }
    if done.is_ok() {
        done = host.run(reload, &[]).await;
        if done.is_err() {
            include.restore()?;
            // It may be that nginx read the new file and the command failed afterwards.
            drop(host.run(reload, &[]).await);
        }
    }
    match done {
        Ok(()) => include.forget_before(),
        Err(error) => {
            include.restore()?;
            include.forget_before()?;
            Err(error)
        }
    }
}

/// The include file: one server a line.
fn render(upstreams: &[Upstream]) -> String {
    let mut text = HEAD.to_owned();
    for upstream in upstreams {
        text.push_str(&format!("server {upstream};\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::supervisor::proxy::nginx_include::{read, remove};
    use crate::supervisor::proxy::test_host::TestHost;

    /// A directory with an include file, and commands that note that they were run.
    struct World {
        dir: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let world = Self { dir: tempfile::tempdir().unwrap() };
            fs::write(world.file(), "server 127.0.0.1:1;\n").unwrap();
            world
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("web.conf")
        }

        /// `flip` to a port, with a test and a reload that end with these codes.
        async fn flip(&self, port: u16, test: u8, reload: u8) -> Result<(), String> {
            let log = self.dir.path().join("log");
            let command = |name: &str, code: u8| {
                let script =
                    format!("echo {name} >> {}; echo {name} >&2; exit {code}", log.display());
                ["sh".to_owned(), "-c".to_owned(), script]
            };
            let upstream = Upstream::Tcp(([127, 0, 0, 1], port).into());
            let (test, reload) = (command("test", test), command("reload", reload));
            let nginx = Nginx { file: self.file(), test: test.into(), reload: reload.into() };
            flip(&nginx, &[upstream], &TestHost).await.map_err(|error| error.to_string())
        }

        /// What ran since the last look, and the file.
        fn look(&self) -> (String, Option<String>) {
            let log = self.dir.path().join("log");
            let ran = fs::read_to_string(&log).unwrap_or_default().replace('\n', " ");
            remove(&log).unwrap();
            let dir = fs::read_dir(self.dir.path()).unwrap();
            let n_files = usize::from(self.file().exists());
            assert_eq!(dir.count(), n_files, "something was left");
            (ran.trim().to_owned(), read(&self.file()).unwrap())
        }
    }

    fn content(port: u16) -> Option<String> {
        Some(format!("{HEAD}server 127.0.0.1:{port};\n"))
    }

    #[test]
    fn servers_are_written_one_a_line_below_the_head() {
        let tcp = Upstream::Tcp("[::1]:80".parse().unwrap());
        let unix = Upstream::Unix(PathBuf::from("/run/x.sock"));
        let expected = format!("{HEAD}server [::1]:80;\nserver unix:/run/x.sock;\n");
        assert_eq!(render(&[tcp, unix]), expected);
    }

    #[tokio::test]
    async fn a_flip_tests_and_reloads_once() {
        let world = World::new();
        world.flip(2, 0, 0).await.unwrap();
        assert_eq!(world.look(), ("test reload".to_owned(), content(2)));
        world.flip(2, 0, 0).await.unwrap();
        assert_eq!(world.look(), (String::new(), content(2)));
    }

    #[tokio::test]
    async fn a_failure_brings_the_old_file_back() {
        let world = World::new();
        let old = Some("server 127.0.0.1:1;\n".to_owned());
        let error = world.flip(2, 1, 0).await.unwrap_err();
        assert!(error.ends_with("exit 1: test"), "{error}");
        assert_eq!(world.look(), ("test".to_owned(), old.clone()));
        let error = world.flip(2, 0, 1).await.unwrap_err();
        assert!(error.ends_with("exit 1: reload"), "{error}");
        assert_eq!(world.look(), ("test reload reload".to_owned(), old));
        remove(&world.file()).unwrap();
        world.flip(2, 1, 0).await.unwrap_err();
        assert_eq!(world.look(), ("test".to_owned(), None));
    }

    #[tokio::test]
    async fn a_flip_that_was_cut_short_is_told_to_nginx_again() {
        let world = World::new();
        world.flip(2, 0, 0).await.unwrap();
        world.look();
        // Killed after the file was replaced and before the reload.
        let include = Include::of(&world.file());
        include.keep_before(content(2).as_deref()).unwrap();
        fs::write(world.file(), content(3).unwrap()).unwrap();
        world.flip(3, 0, 0).await.unwrap();
        assert_eq!(world.look(), ("test reload".to_owned(), content(3)));
        // The same, and the next flip fails: what nginx runs with comes back.
        include.keep_before(content(3).as_deref()).unwrap();
        fs::write(world.file(), content(4).unwrap()).unwrap();
        world.flip(4, 1, 0).await.unwrap_err();
        assert_eq!(world.look(), ("test".to_owned(), content(3)));
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_and_a_missing_file_are_named() {
        let error = check(Path::new("/no/such/web.conf"), &["true".to_owned()], &TestHost)
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with("/no/such: no such file"), "{error}");
        let world = World::new();
        assert!(check(&world.file(), &["true".to_owned()], &TestHost).await.is_ok());
        assert!(check(&world.file(), &["false".to_owned()], &TestHost).await.is_err());
        remove(&world.file()).unwrap();
        let error =
            check(&world.file(), &["true".to_owned()], &TestHost).await.unwrap_err().to_string();
        assert!(error.contains("begin with: echo 'server 127.0.0.1:9;'"), "{error}");
    }
}

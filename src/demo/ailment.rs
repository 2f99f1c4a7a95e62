//! What goes wrong with a program little by little: a step with each question for its health, so
//! that a test counts steps and not time.

use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cli::out;

/// How much worse it gets with each question.
#[derive(Debug, Default, Clone, Copy)]
pub struct Ailment {
    /// Memory it keeps, in kilobytes.
    leak_kb: usize,
    /// Files it leaves open.
    leak_fds: usize,
    /// Threads it leaves waiting.
    leak_threads: usize,
    /// Error lines it writes, also with any other request.
    error_lines: u64,
    /// So many of a hundred requests it counts as failed.
    bad_percent: u64,
}

impl Ailment {
    /// Takes an argument of this name, if it is one of these.
    pub fn take(&mut self, name: &str, number: u64) -> bool {
        let n = usize::try_from(number).unwrap_or(0);
        match name {
            "leak-kb" => self.leak_kb = n,
            "leak-fds" => self.leak_fds = n,
            "leak-threads" => self.leak_threads = n,
            "error-lines" => self.error_lines = number,
            "bad-percent" => self.bad_percent = number,
            _ => return false,
        }
        true
    }
}

/// How bad it is by now.
#[derive(Debug, Default)]
pub struct Health {
    ailment: Ailment,
    kept: Mutex<(Vec<Vec<u8>>, Vec<File>)>,
    n_requests: AtomicU64,
}

impl Health {
    /// With this ailment.
    #[must_use]
    pub fn new(ailment: Ailment) -> Self {
        Self { ailment, ..Self::default() }
    }

    /// Counts a request and writes the configured error lines.
    pub fn asked(&self) {
        self.n_requests.fetch_add(1, Ordering::Relaxed);
        for n in 0..self.ailment.error_lines {
            out::say(format!("ERROR number {n}"));
        }
    }

    /// Leaks the configured resources, once per health check.
    pub fn worsen(&self) {
        if let Ok(mut kept) = self.kept.lock() {
            // Written to, or the kernel would not give it.
            kept.0.push(vec![1; self.ailment.leak_kb * 1024]);
            let opened = (0..self.ailment.leak_fds).filter_map(|_| File::open("/dev/null").ok());
            kept.1.extend(opened);
        }
        for _ in 0..self.ailment.leak_threads {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
        }
    }

    /// What it counts, in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let all = self.n_requests.load(Ordering::Relaxed);
        let bad = all * self.ailment.bad_percent / 100;
        format!(
            "# HELP http_requests_total Requests by their answer.\n\
             # TYPE http_requests_total counter\n\
             http_requests_total{{code=\"200\"}} {}\n\
             http_requests_total{{code=\"503\"}} {bad}\n",
            all - bad
        )
    }
}

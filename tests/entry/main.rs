//! Outside proxies as entry points, against the real servers of the distribution.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop")]
#![allow(clippy::print_stderr, reason = "what a proxy loses is told")]

mod caddy;
mod haproxy;
mod nginx;
mod world;

//! The drivers of backups, one file a driver.

mod command;
mod command_aside;
mod files;
mod gone_clients;
mod mariadb;
mod mariadb_backends;
mod mariadb_dump;
mod mariadb_exchange;
mod mariadb_guard;
mod mariadb_url;
mod percent;
mod postgres;
mod postgres_backends;
mod postgres_exchange;
mod postgres_guard;
mod postgres_live;
mod postgres_make;
mod postgres_restore;
mod postgres_tools;
mod postgres_url;
mod sql_answer;
mod sqlite;

use std::path::{Path, PathBuf};

use crate::config::backup::drivers;
use crate::config::kinds::dispatch;
use crate::config::model::{Driver as Configured, Settings};
use crate::keeper::protocol::To;
use crate::store::seal::Hashes;
use crate::supervisor::data::context::{Context, Env};
use crate::supervisor::data::driver::{Counts, Done, Driver, Place, Session, Taken, Trait, Undone};
use crate::supervisor::data::relay::Guard;
use crate::supervisor::data::site::Site;

/// Asks the driver that is configured.
macro_rules! ask {
    ($configured:expr, $driver:ident => $asked:expr) => {
        drivers!(dispatch!($configured, Configured($driver) => $asked))
    };
}

impl Driver for Configured {
    fn tools(&self) -> &'static [&'static str] {
        ask!(self, driver => driver.tools())
    }

    async fn ready(&self, context: &Context<'_>) -> Done {
        ask!(self, driver => driver.ready(context).await)
    }

    fn live_bytes(&self, shared: &Path) -> Option<u64> {
        ask!(self, driver => driver.live_bytes(shared))
    }

    fn may_be_empty(&self) -> bool {
        ask!(self, driver => driver.may_be_empty())
    }

    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done<Taken> {
        ask!(self, driver => driver.take(context, dir).await)
    }

    fn hashes_what_it_copies(&self) -> bool {
        ask!(self, driver => driver.hashes_what_it_copies())
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done<Hashes> {
        ask!(self, driver => driver.restore(context, from, site).await)
    }

    async fn replaceable(&self, context: &Context<'_>) -> Done {
        ask!(self, driver => driver.replaceable(context).await)
    }

    async fn stage(&self, context: &Context<'_>, from: &Path) -> Done {
        ask!(self, driver => driver.stage(context, from).await)
    }

    async fn put(&self, context: &Context<'_>, from: &Path) -> Done {
        ask!(self, driver => driver.put(context, from).await)
    }

    async fn take_back(&self, context: &Context<'_>, from: &Path) -> Done<Undone> {
        ask!(self, driver => driver.take_back(context, from).await)
    }

    async fn let_go(&self, context: &Context<'_>) -> Done {
        ask!(self, driver => driver.let_go(context).await)
    }

    async fn unstage(&self, context: &Context<'_>, from: &Path) -> Done {
        ask!(self, driver => driver.unstage(context, from).await)
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        ask!(self, driver => driver.inspect(context, site).await)
    }

    async fn count(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        ask!(self, driver => driver.count(context, site).await)
    }

    async fn displaced(&self, context: &Context<'_>, from: &Path) -> Done<(Counts, Vec<String>)> {
        ask!(self, driver => driver.displaced(context, from).await)
    }

    async fn aside(&self, context: &Context<'_>) -> Done<Vec<PathBuf>> {
        ask!(self, driver => driver.aside(context).await)
    }

    fn shows_no_loss(&self) -> &'static str {
        ask!(self, driver => driver.shows_no_loss())
    }

    fn sees_not(&self) -> &'static str {
        ask!(self, driver => driver.sees_not())
    }

    async fn changed(&self, context: &Context<'_>, from: &Path) -> Done<Vec<String>> {
        ask!(self, driver => driver.changed(context, from).await)
    }

    fn not_taken_back(&self) -> Option<String> {
        ask!(self, driver => driver.not_taken_back())
    }

    async fn uncounted(&self, context: &Context<'_>, site: &Site) -> Done<Vec<String>> {
        ask!(self, driver => driver.uncounted(context, site).await)
    }

    fn source(&self, context: &Context<'_>) -> Vec<String> {
        ask!(self, driver => driver.source(context))
    }

    async fn sessions(&self, context: &Context<'_>) -> Done<Option<Vec<Session>>> {
        ask!(self, driver => driver.sessions(context).await)
    }

    async fn end_sessions(&self, context: &Context<'_>, ends: &str) -> Done {
        ask!(self, driver => driver.end_sessions(context, ends).await)
    }

    async fn lost(&self, context: &Context<'_>, site: &Site) -> Done<Vec<String>> {
        ask!(self, driver => driver.lost(context, site).await)
    }

    fn place(&self) -> Option<Place<'_>> {
        ask!(self, driver => driver.place())
    }

    fn used(&self) -> Vec<&Path> {
        ask!(self, driver => driver.used())
    }

    fn variables(&self, context: &Context<'_>, site: &Site, settings: &Settings) -> Env {
        ask!(self, driver => driver.variables(context, site, settings))
    }

    async fn addresses(&self, context: &Context<'_>) -> Done<Vec<To>> {
        ask!(self, driver => driver.addresses(context).await)
    }

    async fn guard(&self, context: &Context<'_>, site: &Site, dir: &Path) -> Done<Option<Guard>> {
        ask!(self, driver => driver.guard(context, site, dir).await)
    }

    async fn traits(&self, context: &Context<'_>) -> Done<Vec<Trait>> {
        ask!(self, driver => driver.traits(context).await)
    }

    async fn put_back(&self, context: &Context<'_>, before: &[Trait]) -> Done {
        ask!(self, driver => driver.put_back(context, before).await)
    }

    fn signature(&self, name: &str) -> Env {
        ask!(self, driver => driver.signature(name))
    }

    async fn settle(&self, context: &Context<'_>, name: &str) -> Done {
        ask!(self, driver => driver.settle(context, name).await)
    }

    async fn discard(&self, context: &Context<'_>, site: &Site) -> Done {
        ask!(self, driver => driver.discard(context, site).await)
    }
}

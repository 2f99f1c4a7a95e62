//! The entry: an outside reverse proxy as the stable address of a service.
//!
//! This room gives a proxy the instances' addresses, and asks it what it has. It must never start
//! or stop a proxy, or configure anything else. A flip is whole or leaves the proxy as it was,
//! as far as the proxy allows, and may be done again: a supervisor that was killed in the middle of
//! one does the same one again.
//!
//! What a proxy does with connections that are kept alive is its own. Measured, 50 flips under four
//! clients: HAProxy 2.6 keeps them and loses none. nginx 1.22 and Caddy 2.6 close the idle ones, and
//! a request that is written at that moment is lost. Clients that never look before they use a
//! connection again lost 33 and 143 that way; of clients that look, nginx lost 0 to 2 and Caddy 33
//! to 53. Requests that are being answered go on to their end with all three.

pub mod admin;
mod caddy;
mod command;
pub mod driver;
pub mod error;
mod haproxy;
mod haproxy_server;
pub(crate) mod keeper_host;
mod nginx;
mod nginx_include;
#[cfg(test)]
mod test_host;

use crate::config::kinds::dispatch;
use crate::config::model::Proxy;
use crate::config::proxy::proxies;

use self::driver::Driver;
pub use self::driver::{Host, Upstream};
pub use self::error::EntryError;

/// The driver of each kind.
fn driver(proxy: &Proxy) -> &dyn Driver {
    proxies!(dispatch!(proxy, Proxy(settings) => settings))
}

/// Whether a flip to this many upstreams could be done; nothing is changed. The text is for people.
///
/// # Errors
/// [`EntryError`] with what is missing.
pub async fn check(
    proxy: &Proxy,
    n_upstreams: usize,
    host: &dyn Host,
) -> Result<String, EntryError> {
    driver(proxy).check(n_upstreams, host).await
}

/// Points the proxy at these upstreams and at no others. Done again it changes nothing.
///
/// # Errors
/// [`EntryError`]; the proxy is as it was, unless the error text states otherwise.
pub async fn flip(
    proxy: &Proxy,
    upstreams: &[Upstream],
    host: &dyn Host,
) -> Result<(), EntryError> {
    if upstreams.is_empty() {
        return Err(EntryError::NoUpstream);
    }
    driver(proxy).flip(upstreams, host).await
}

/// Whether a proxy that was started again has forgotten its upstreams, and may be flipped again and
/// again.
#[must_use]
pub(crate) fn forgets(proxy: &Proxy) -> bool {
    driver(proxy).forgets()
}

//! Caddy's admin API: the `upstreams` of the handler with an `@id` (caddyserver.com/docs/api).
//!
//! Each change makes Caddy load its whole configuration again: all of it, or none. On Linux the new
//! one listens on a socket of its own beside the old (`SO_REUSEPORT`), and what still queues at the
//! old one when it is closed is reset (Caddy 2.6.2: 25 to 37 of 12,000 requests in 50 flips),
//! except where `net.ipv4.tcp_migrate_req` is 1 (Linux 5.14: none of 12,000). So nothing is changed
//! that is already so, and the check reports it.

use std::io;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::config::proxy::Admin;
use crate::config::proxy::caddy::Caddy;
use crate::supervisor::proxy::admin::{Place, connect};
use crate::supervisor::proxy::driver::{Driver, Host, Upstream, Work};
use crate::supervisor::proxy::error::{DEADLINE, EntryError};
use crate::supervisor::sockets::http_client::{self, Answer, BodyLimit, HttpError, Limits};

/// Whether the kernel gives the queue of a closed listener to the one beside it.
const MIGRATE: &str = "/proc/sys/net/ipv4/tcp_migrate_req";
/// How long a request may take, and the longest answer.
const LIMITS: Limits = Limits { deadline: DEADLINE, body: BodyLimit::Whole(1024 * 1024) };

impl Driver for Caddy {
    fn check<'a>(&'a self, _n_upstreams: usize, _host: &'a dyn Host) -> Work<'a, String> {
        Box::pin(check(&self.admin, &self.id))
    }

    fn flip<'a>(&'a self, upstreams: &'a [Upstream], _host: &'a dyn Host) -> Work<'a, ()> {
        Box::pin(flip(&self.admin, &self.id, upstreams))
    }

    fn forgets(&self) -> bool {
        true
    }
}

/// Whether the handler is there and is a `reverse_proxy`.
///
/// # Errors
/// [`EntryError`].
async fn check(admin: &Admin, id: &str) -> Result<String, EntryError> {
    let api = Api::new(admin, id);
    let handler = api.handler().await?;
    let dials = dials(&handler).join(" ");
    let now = if dials.is_empty() { "nothing".to_owned() } else { dials };
    let mut text = format!("{}: {id} sends connections to {now}", api.place.name);
    let migrates = std::fs::read_to_string(MIGRATE);
    if migrates.is_ok_and(|text| text.trim() == "0") {
        text.push_str(
            "; a connection that arrives while caddy reloads may be reset \
             (sysctl -w net.ipv4.tcp_migrate_req=1 prevents it)",
        );
    }
    Ok(text)
}

/// Replaces the upstreams.
///
/// # Errors
/// [`EntryError`].
async fn flip(admin: &Admin, id: &str, upstreams: &[Upstream]) -> Result<(), EntryError> {
    let api = Api::new(admin, id);
    let handler = api.handler().await?;
    let wanted: Vec<_> = upstreams.iter().map(dial).collect();
    if dials(&handler) == wanted {
        return Ok(());
    }
    match api.set(&handler, &wanted).await {
        Err(EntryError::Late { .. } | EntryError::Unreachable { .. }) => {}
        done => return done,
    }
    // The answer is missing; whether it was done is seen by asking.
    let found = api.handler().await?;
    if dials(&found) == wanted {
        return Ok(());
    }
    let why = "it did not accept the new upstreams, and still has the old ones";
    Err(api.place.refused(why, api.place.next.clone()))
}

/// One handler of one Caddy.
struct Api<'a> {
    admin: &'a Admin,
    id: &'a str,
    place: Place,
}

impl<'a> Api<'a> {
    fn new(admin: &'a Admin, id: &'a str) -> Self {
        let next = match admin {
            Admin::Tcp(address) => format!("curl http://{address}/config/"),
            Admin::Unix(path) => {
                format!("curl -H 'Host;' --unix-socket {} http://x/config/", path.display())
            }
        };
        Self { admin, id, place: Place { name: format!("caddy at {admin}"), next } }
    }

    /// The handler as it is configured.
    async fn handler(&self) -> Result<Value, EntryError> {
        let answer = self.ask(Method::GET, &format!("/id/{}", self.id), String::new()).await?;
        let next = format!("name a reverse_proxy handler's \"@id\" in id; {}", self.place.next);
        if answer.status != StatusCode::OK {
            return Err(self.place.refused(self.said(&answer), next));
        }
        let handler: Value = serde_json::from_slice(&answer.body).map_err(|error| {
            self.place.refused(format!("the answer is not JSON: {error}"), &self.place.next)
        })?;
        if handler["handler"] != "reverse_proxy" {
            let why = format!("@id {:?} is not a reverse_proxy handler", self.id);
            return Err(self.place.refused(why, next));
        }
        if handler.get("dynamic_upstreams").is_some() {
            let why = format!("@id {:?} has dynamic_upstreams, which override upstreams", self.id);
            return Err(self.place.refused(why, "take dynamic_upstreams out"));
        }
        Ok(handler)
    }

    async fn set(&self, handler: &Value, wanted: &[String]) -> Result<(), EntryError> {
        // PATCH replaces what is there, PUT makes what is not.
        let method = if handler.get("upstreams").is_some() { Method::PATCH } else { Method::PUT };
        let path = format!("/id/{}/upstreams", self.id);
        let answer = self.ask(method, &path, new_upstreams(handler, wanted).to_string()).await?;
        if answer.status == StatusCode::OK {
            return Ok(());
        }
        Err(self.place.refused(self.said(&answer), "its log has more; nothing was changed"))
    }

    fn said(&self, answer: &Answer) -> String {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = String::from_utf8_lossy(&answer.body);
        let said = body["error"].as_str().unwrap_or(text.trim());
        format!("it answered {} about @id {:?}: {said}", answer.status, self.id)
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Result<Answer, EntryError> {
        // Caddy takes the empty name alone on a unix socket (2.6.2: "host not allowed: localhost").
        let host = match self.admin {
            Admin::Tcp(address) => address.to_string(),
            Admin::Unix(_) => String::new(),
        };
        let request = http_client::request(method, path, &host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.place.unreachable(io::Error::other(error)))?;
        let answer = http_client::exchange(connect(self.admin), request, LIMITS).await;
        answer.map_err(|error| match error {
            HttpError::Late => self.place.late(),
            error => self.place.unreachable(error.into()),
        })
    }
}

/// Where the handler leads.
fn dials(handler: &Value) -> Vec<String> {
    let upstreams = handler["upstreams"].as_array().into_iter().flatten();
    upstreams.filter_map(|upstream| upstream["dial"].as_str()).map(str::to_owned).collect()
}

/// The wanted upstreams, each with the other settings of the first old one (`max_requests`).
fn new_upstreams(handler: &Value, wanted: &[String]) -> Value {
    let pattern = handler["upstreams"].get(0).filter(|first| first.is_object()).cloned();
    let pattern = pattern.unwrap_or_else(|| json!({}));
    let one = |dial: &String| {
        let mut upstream = pattern.clone();
        upstream["dial"] = json!(dial);
        upstream
    };
    wanted.iter().map(one).collect()
}

/// A network address of Caddy's: `127.0.0.1:8000`, `unix//run/x.sock`.
fn dial(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Tcp(address) => address.to_string(),
        Upstream::Unix(path) => format!("unix/{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn upstreams_are_written_as_caddy_dials_them() {
        for (upstream, expected) in [
            (Upstream::Tcp("127.0.0.1:8000".parse().unwrap()), "127.0.0.1:8000"),
            (Upstream::Tcp("[::1]:8000".parse().unwrap()), "[::1]:8000"),
            (Upstream::Unix(PathBuf::from("/run/x.sock")), "unix//run/x.sock"),
        ] {
            assert_eq!(dial(&upstream), expected);
        }
    }

    #[test]
    fn what_an_upstream_has_beside_its_address_stays() {
        let wanted = ["a:1".to_owned(), "b:2".to_owned()];
        for (handler, expected) in [
            (json!({}), json!([{"dial": "a:1"}, {"dial": "b:2"}])),
            (json!({"upstreams": []}), json!([{"dial": "a:1"}, {"dial": "b:2"}])),
            (
                json!({"upstreams": [{"dial": "x:1", "max_requests": 9}]}),
                json!([{"dial": "a:1", "max_requests": 9}, {"dial": "b:2", "max_requests": 9}]),
            ),
        ] {
            assert_eq!(new_upstreams(&handler, &wanted), expected);
        }
    }

    #[test]
    fn where_a_handler_leads_is_read() {
        let handler = json!({"upstreams": [{"dial": "a:1"}, {"dial": "b:2"}, {}]});
        assert_eq!(dials(&handler), ["a:1", "b:2"]);
        assert_eq!(dials(&json!({})), [""; 0]);
    }
}

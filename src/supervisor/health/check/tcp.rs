//! The program takes a connection out of its accept queue.

use crate::supervisor::health::checker::{Answer, Checker, Target};
use crate::supervisor::health::connection;

struct Tcp;

pub(super) fn checker() -> impl Checker {
    Tcp
}

impl Checker for Tcp {
    fn probe<'a>(&'a self, target: Target<'a>) -> Answer<'a> {
        let Target { service, generation, instance } = target;
        Box::pin(connection::taken(service, generation, instance))
    }

    fn connects(&self) -> bool {
        true
    }
}

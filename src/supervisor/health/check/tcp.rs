//! The program takes a connection out of its accept queue.

use crate::supervisor::health::checker::{Answer, Checker, Target};
use crate::supervisor::health::connection;

pub(super) struct Tcp;

impl Checker for Tcp {
    fn probe<'a>(&'a self, target: Target<'a>) -> Answer<'a> {
        let Target { service, crew, instance } = target;
        Box::pin(connection::taken(service, crew, instance))
    }

    fn connects(&self) -> bool {
        true
    }
}

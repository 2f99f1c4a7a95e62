//! Being alive is good.

use crate::supervisor::health::checker::{Answer, Checker, Target};
use crate::supervisor::health::probe::Probe;

pub(super) struct Alive;

impl Checker for Alive {
    fn probe<'a>(&'a self, _target: Target<'a>) -> Answer<'a> {
        Box::pin(async { Probe::good() })
    }
}

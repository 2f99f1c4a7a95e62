//! The program reports that it is ready; from then on being alive is good.

use crate::supervisor::health::checker::{Answer, Checker, Target};
use crate::supervisor::health::probe::Probe;

struct Notify;

pub(super) fn checker() -> impl Checker {
    Notify
}

impl Checker for Notify {
    fn probe<'a>(&'a self, target: Target<'a>) -> Answer<'a> {
        Box::pin(async move {
            if target.instance.has_said_ready() {
                return Probe::good();
            }
            Probe::bad("it has not sent READY=1 to NOTIFY_SOCKET")
        })
    }
}

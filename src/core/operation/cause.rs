//! Why an operation left its way forward.

/// Why an operation left its way forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A phase before the candidate was started failed.
    Refused,
    /// The gate (or the start) failed.
    Gate,
    /// The flip itself failed.
    Flip,
    /// The bake failed.
    Bake,
    /// The candidate's processes ended.
    Died,
    /// The bake was inconclusive and the policy is to go back.
    Inconclusive,
    /// `abort` was ordered.
    Aborted,
    /// The supervisor or the machine went down in the middle.
    Interrupted,
    /// A rollback was what was asked for.
    Asked,
}

named!(Cause {
    Refused = "refused",
    Gate = "gate",
    Flip = "flip",
    Bake = "bake",
    Died = "died",
    Inconclusive = "inconclusive",
    Aborted = "aborted",
    Interrupted = "interrupted",
    Asked = "asked",
});

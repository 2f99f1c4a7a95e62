//! What the kernel of this host can do, as far as decisions depend on it.

/// What the kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// A program's `bind()` can be answered by Halley (Linux 5.9, and no sandbox that forbids it).
    pub can_intercept: bool,
    /// The longest accept queue (`net.core.somaxconn`).
    pub somaxconn: u32,
}

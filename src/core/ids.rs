//! The names of things: services, releases, operations, generations, instances, slots.

use std::fmt;
use std::str::FromStr;

/// A service's name: 1 to 63 characters of `a-z`, `0-9`, `-`, `_`, starting with a letter or digit.
///
/// It becomes a directory name and part of descriptor names, so nothing else is let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

/// Why a text is not a service's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a service's name is 1 to 63 of a-z, 0-9, - and _, starting with a letter or digit, and not \
     lock or sets: {0:?}"
)]
pub struct BadServiceName(String);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = BadServiceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
        let first = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        // `lock` and `sets` are entries of their own beside the services' directories.
        let good = text.len() <= 63
            && !["lock", "sets"].contains(&text)
            && text.as_bytes().first().is_some_and(first)
            && text.bytes().all(inner);
        if good { Ok(Self(text.to_owned())) } else { Err(BadServiceName(text.to_owned())) }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of a release: `releases/43`. Given out once, growing, never used again.
    ReleaseId(u64)
}
number! {
    /// The number of an operation: `ops/0000107`. Given out once per service, growing.
    OpId(u64)
}
number! {
    /// The number of a set: `sets/0000003`. Given out once, growing.
    SetId(u64)
}
number! {
    /// One start of a release: a restart of release 43 is another generation of the same release.
    ///
    /// All instances of a generation were started together and are steered to together.
    GenerationId(u64)
}
number! {
    /// The place of an instance within its generation, from 0.
    InstanceIndex(u16)
}
number! {
    /// The number of a slot in its listener's group, from 0, as Halley counts them.
    ///
    /// This is a name that never changes; the kernel's position of the same socket may.
    SlotId(u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_directories_so_only_plain_ones_pass() {
        for good in ["web", "a", "api-2", "0x", "under_score", &"a".repeat(63)] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", "lock", "sets", "-web", "Web", "a/b", "..", "a b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }
}

//! The operation as a pure machine: its phases, where it goes on after a crash, how connections are
//! shared while it runs.

/// Names in journal and output, read back.
macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// The name in journal and output.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The one of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

pub mod cause;
pub mod conclusion;
pub mod ladder;
pub mod live;
pub mod machine;
pub mod outcome;
pub mod phase;
pub mod plan;
pub mod point;
pub mod preempt;
pub mod recover;
pub mod rollout;
pub mod way_back;

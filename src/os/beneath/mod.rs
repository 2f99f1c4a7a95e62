//! Files below directories that other users can write to, worked on by root: by descriptors, never
//! by a path twice.
//!
//! Between two calls that take the same path its owner may exchange any part of it, and root then
//! reads, writes, gives away or removes a file that was never meant. Here a path is walked once
//! (`way`); what is done afterwards is done to descriptors, by single names, and follows no link.
//! This
//! room must never follow a link that another user could have put there out of that user's own
//! directories.

mod content;
mod copy;
mod dir;
mod held;
mod names;
mod remove;
mod walk;
mod way;

pub use content::{fill, fill_shown};
pub use copy::{Copied, Shown, liken};
pub use dir::Dir;
pub use held::{Pinned, give};
pub use names::{open_beneath, unguessable};
pub use remove::remove_tree;
pub use walk::Met;
pub use way::{give_to, real};

#[cfg(test)]
pub(crate) mod tests;

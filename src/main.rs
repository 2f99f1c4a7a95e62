//! The `halley-sup` binary.

fn main() {}

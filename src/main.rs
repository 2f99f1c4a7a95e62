//! The `halley-sup` binary: its arguments say which of its personalities it is.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    halley_sup::os::names::begin();
    halley_sup::os::name_process();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|verb| verb.to_str()) {
        Some(halley_sup::os::launch::VERB) => halley_sup::os::launch::main(&args[1..]),
        Some(halley_sup::os::isolate::TRIAL_VERB) => {
            halley_sup::os::isolate::trial_main(&args[1..])
        }
        Some(halley_sup::keeper::estate::VERB) => halley_sup::keeper::main(&args[1..]),
        Some(halley_sup::supervisor::VERB) => halley_sup::supervisor::main(&args[1..]),
        Some(halley_sup::decode::VERB) => halley_sup::decode::main(),
        Some(halley_sup::forward::VERB) => halley_sup::forward::main(&args[1..]),
        Some(halley_sup::follow::VERB) => halley_sup::follow::main(&args[1..]),
        Some(halley_sup::demo::service::VERB) => halley_sup::demo::service::main(&args[1..]),
        _ => halley_sup::cli::main(),
    }
}

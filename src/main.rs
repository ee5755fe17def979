//! Parses, loads, starts logging, runs. Decides the exit code: 0, 1 for what went wrong, 2 for a wrong flag.
#![forbid(unsafe_code)]
use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use madcache::config::{Flags, Source};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let check_only = flags.check_config;
    let source = Source::new(flags, known_command);
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    if check_only {
        if let Err(error) = madcache::tls::Loaded::read(&config) {
            return failed(&error);
        }
        // Who closed stdout does not want to read it; the exit code says the same.
        let _ = writeln!(std::io::stdout(), "configuration ok");
        return ExitCode::SUCCESS;
    }
    madcache::logging::start(&config.log);
    match madcache::app::run(config, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn known_command(name: &str) -> bool {
    madcache::command::lookup_name(name).is_some()
}

fn failed(error: &dyn Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "madcache: {error}");
    ExitCode::FAILURE
}

//! Writes log lines to stderr, as text or JSON, at a level that a reload can change. Who logs keeps secrets out.
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat, LogLevel};

static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts logging for the process. Later calls only change the level.
pub fn start(log: &Log) {
    let (filter, handle) = reload::Layer::new(level_filter(log.level));
    if LEVEL.set(handle).is_err() {
        return set_level(log.level);
    }
    let registry = tracing_subscriber::registry().with(filter);
    let started = match log.format {
        LogFormat::Json => {
            registry.with(layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            registry.with(layer().with_ansi(ansi).with_writer(std::io::stderr)).try_init()
        }
    };
    // A test may have installed a subscriber of its own, which then stays.
    drop(started);
}

/// Changes the level of the running process; without `start` there is nothing to change.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // Fails only when the subscriber is gone, and its level with it.
        drop(handle.reload(level_filter(level)));
    }
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

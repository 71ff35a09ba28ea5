//! Where the log goes: to standard error, as text or JSON lines, filtered by `FOREBAY_LOG`.
//!
//! The log tells what the server does; what happened to files is the journal's to tell (`forebay audit`).

mod log_writer;
mod repeated;

use std::{io::IsTerminal, panic};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

pub use self::{
    log_writer::{LogState, finish_log, log_state},
    repeated::Repeated,
};

/// The environment variable that overrides the configured filter, such as `info,forebay::doors=debug`.
pub const FILTER_VARIABLE: &str = "FOREBAY_LOG";

/// The section `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The format of a line.
    pub format: Format,
    /// The filter of log events, in the syntax of `tracing`.
    pub filter: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { format: Format::Text, filter: "info".to_owned() }
    }
}

impl Options {
    /// Every fault, as key and sentence.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        match EnvFilter::builder().parse(&self.filter) {
            Ok(_) => Vec::new(),
            Err(error) => vec![("filter".to_owned(), format!("is no filter: {error}"))],
        }
    }
}

/// The format of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Parts beneath ours that say too much. The spans of `libunftp` carry all that a session holds, so they are never
/// made unless someone asks for them by name: each would cost much time, and show what a log must not.
const QUIET: [(&str, &str); 4] = [("libunftp", "off"), ("unftp_sbe_fs", "off"), ("slog", "warn"), ("sled", "warn")];

fn with_quiet(filter: &str) -> String {
    // Whoever names one in the filter wants it.
    let quiet = QUIET.iter().filter(|(target, _)| !filter.contains(target));
    let quiet: Vec<_> = quiet.map(|(target, level)| format!("{target}={level}")).collect();
    [filter.to_owned()].into_iter().chain(quiet).collect::<Vec<_>>().join(",")
}

/// Starts logging to standard error. A second call changes nothing. Panics are logged too from now on.
pub fn start(options: &Options) {
    // A variable that is no filter is passed over: it must not keep a server from starting.
    let asked = std::env::var(FILTER_VARIABLE).ok().filter(|text| EnvFilter::builder().parse(text).is_ok());
    let filter = EnvFilter::new(with_quiet(&asked.unwrap_or_else(|| options.filter.clone())));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log_writer::to_standard_error());
    // By itself it reports what it cannot write on standard error, and panics where that fails.
    let lines = lines.log_internal_errors(false);
    let started = match options.format {
        Format::Json => lines.json().try_init(),
        Format::Text => {
            // A log in a file or a journal has no use for escapes.
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colour).try_init()
        }
    };
    // Only a second call fails, and then the first one's choice stands.
    if started.is_ok() {
        log_panics();
    }
}

/// Has panics told in the log, by the writer that never blocks; standard error itself may stand still.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), "{panic}{backtrace}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sessions_hold_is_not_logged_unless_asked_for() {
        assert_eq!(with_quiet("info"), "info,libunftp=off,unftp_sbe_fs=off,slog=warn,sled=warn");
        assert_eq!(with_quiet("debug,libunftp=info"), "debug,libunftp=info,unftp_sbe_fs=off,slog=warn,sled=warn");
        assert!(EnvFilter::builder().parse(with_quiet("info")).is_ok());
        assert_eq!(Options { filter: "a=b=c".to_owned(), ..Options::default() }.validate().len(), 1);
    }
}

//! Forebay: an FTP and SFTP intake that is always open, with a durable queue behind a maintenance gate.
//!
//! The floors, from the ground up; each names only what is beneath it, and `tests/floors.rs` holds them to it:
//! `storage` · `queue` · [`clock`], [`units`], [`telemetry`], [`envelope`], [`durable_file`], [`origin`], [`http`], [`metrics`] · [`credentials`], [`descriptors`], [`tls`] · [`contents`], [`gate`], [`partners`], [`routes`] · [`answers`] · [`ingest`], [`process`]
//! (never each other) · [`doors`] · [`operate`] · [`config`] · [`server`] · [`cli`].

// They panic where standard output or standard error cannot be written.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod answers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contents;
pub mod credentials;
pub mod descriptors;
pub mod doors;
pub mod durable_file;
pub mod envelope;
pub mod gate;
pub mod http;
pub mod ingest;
pub mod metrics;
pub mod operate;
pub mod origin;
pub mod partners;
pub mod process;
pub mod routes;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod units;

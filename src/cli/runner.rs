//! `forebay runner`: runs the programs of routes for a server, as another user.
//!
//! It is started as that user, by its own unit, and accepts only the user that `--server` names. So
//! neither the server nor the program needs to be root.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{args::RunnerArgs, serve::systemd};
use crate::{
    operate::Problem,
    process::{RunnerOptions, serve_runner, uid_of},
    telemetry,
};

/// Runs until a signal stops it.
/// # Errors
/// A user that does not exist, or a socket that cannot be made. A signal ends it in order, with
/// exit code 0.
pub(super) async fn run(args: RunnerArgs) -> Result<(), Problem> {
    telemetry::start(&telemetry::Options::default());
    let server = uid_of(&args.server).ok_or_else(|| {
        Problem::usage(format!("there is no user {}: name the server's user with --server", args.server))
    })?;
    let on_signal = |kind| signal(kind).map_err(|error| Problem::failed(format!("cannot wait for signals: {error}")));
    let (mut term, mut interrupt) = (on_signal(SignalKind::terminate())?, on_signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        systemd(&[sd_notify::NotifyState::Stopping]);
        stopped.cancel();
    });
    let options = RunnerOptions { socket: args.socket, directory: args.directory, server };
    let served = serve_runner(options, stop, || systemd(&[sd_notify::NotifyState::Ready])).await;
    served.map_err(|error| Problem::failed(error.to_string()))
}

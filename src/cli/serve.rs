//! `forebay serve`: runs the server until a signal stops it.
//!
//! SIGTERM and SIGINT stop it in order: uploads and attempts get their time. A second one ends it
//! at once, as a crash does, from which every start recovers. SIGHUP reads forebay.toml again; a
//! file with faults changes nothing. systemd is told of the stages (`Type=notify`), and a start
//! that has much to catch up with extends its own time-out.
//!
//! It fails at the first thing that is missing, with exit code 1 or 2; what is wrong with the
//! configuration is listed whole.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use forebay_queue::Watch;
use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{
    context::{Context, say},
    paint::Tone,
};
use crate::{
    clock::Clock,
    config::Config,
    descriptors,
    gate::{Scope, State},
    operate::Problem,
    server::{DEMO_PARTNER, Running},
    telemetry, units,
};

/// The addresses of the doors with no configuration.
/// On the loopback alone: without a configuration there is neither TLS nor a password that anybody
/// chose.
const FTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2121);
/// Not a privileged port: any user can try it.
const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Runs the server.
/// # Errors
/// Faults of the configuration, a start that fails, or a second signal while it stops.
pub(super) async fn run(context: &Context) -> Result<(), Problem> {
    let mut config = context.config()?;
    if config.file.is_none() {
        config.ftp.listen = FTP;
        config.web.listen = Some(WEB);
    }
    // Before everything that logs, and after the configuration, which says how.
    telemetry::start(&config.log);
    // Before anything is opened: the limit is taken as it is then.
    if let Some(shortage) = descriptors::raise(config.limits.max_connections).shortage() {
        warn!("{shortage}");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let on_signal = |kind| signal(kind).map_err(|error| Problem::failed(format!("cannot wait for signals: {error}")));
    // Signals are caught before the start, so that one that comes early stops in order too.
    let (mut term, mut interrupt, mut hangup) =
        (on_signal(SignalKind::terminate())?, on_signal(SignalKind::interrupt())?, on_signal(SignalKind::hangup())?);
    let watch = watch(&context.clock);
    let mut start = std::pin::pin!(Running::start(config.clone(), context.clock.clone(), &watch));
    let started = tokio::select! {
        started = &mut start => started,
        _ = term.recv() => return stop_start(&watch, start).await,
        _ = interrupt.recv() => return stop_start(&watch, start).await,
    };
    let running = started?;
    if let Err(problem) = greet(context, &config, &running) {
        // Whoever read it may be gone; the server is not.
        warn!("the greeting was not printed: {problem}");
    }
    // After the greeting, and only when every door listens: units that come after it may connect at
    // once.
    systemd(&[NotifyState::Ready, NotifyState::Status("")]);
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(context, &running).await,
        }
    }
    systemd(&[NotifyState::Stopping]);
    info!("stopping: uploads and processing get their time; a second signal stops at once");
    tokio::select! {
        () = running.shutdown() => Ok(()),
        _ = term.recv() => Err(Problem::failed("stopped at once; running uploads and attempts are recovered at the next start")),
        _ = interrupt.recv() => Err(Problem::failed("stopped at once; running uploads and attempts are recovered at the next start")),
    }
}

/// The time that a start which is to stop has to end in order. What it leaves then is what a crash leaves.
const STOP_START: Duration = Duration::from_secs(5);

/// Ends a start before the server was ready.
/// A start that stops in order leaves what it has done, so that the next one is shorter. Exit code
/// 0: it did as it was told.
async fn stop_start(
    watch: &Watch,
    start: Pin<&mut impl Future<Output = Result<Running, Problem>>>,
) -> Result<(), Problem> {
    systemd(&[NotifyState::Stopping]);
    info!("stopping before the server was ready; the next start goes on where this one was");
    watch.stop();
    match tokio::time::timeout(STOP_START, start).await {
        Ok(Ok(running)) => running.shutdown().await,
        Ok(Err(problem)) => info!(%problem, "the start has ended"),
        Err(_) => info!("the start has not ended in time, and is left as after a crash"),
    }
    Ok(())
}

/// The interval at which the log and systemd are told how far a start is.
const TELL: Duration = Duration::from_secs(5);
/// systemd waits for so long after it was told that a start goes on.
/// Far longer than [`TELL`], so that a slow disk between two tellings does not end the start.
const EXTENSION: Duration = Duration::from_secs(60);

/// Tells how far the index of the queue has caught up with the journal, when that takes its time.
fn watch(clock: &Arc<dyn Clock>) -> Watch {
    let (clock, began) = (Arc::clone(clock), clock.elapsed());
    let told = Mutex::new(began);
    Watch::new(move |done, total| {
        let (now, mut told) = (clock.elapsed(), told.lock());
        if now.saturating_sub(*told) < TELL {
            return;
        }
        *told = now;
        let progress = units::format_progress(now.saturating_sub(began), done, total);
        info!("the index of the queue catches up with the journal: {progress}");
        let status = format!("the index of the queue catches up: {progress}");
        systemd(&[NotifyState::ExtendTimeoutUsec(EXTENSION.as_micros() as u32), NotifyState::Status(&status)]);
    })
}

/// The running server goes on by the last good configuration.
async fn reload(context: &Context, running: &Running) {
    match context.config() {
        Ok(config) => running.reload(&config).await,
        Err(problem) => warn!("forebay.toml has faults and was not read again: {problem}"),
    }
}

/// Without `NOTIFY_SOCKET`, as in a shell, it does nothing.
pub(super) fn systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot notify systemd");
    }
}

/// Says where the doors are and, with no configuration, what to do with them.
/// On standard output, which a script may read with `--json`; the log is on standard error.
fn greet(context: &Context, config: &Config, running: &Running) -> Result<(), Problem> {
    if context.json() {
        return context.object(&serde_json::json!({
            "event": "ready",
            "data": config.data,
            "doors": running.doors,
            "demo_password": running.demo_password,
        }));
    }
    let strong = |text: &str| context.paint.tone(Tone::Strong, text);
    say(&strong(&format!("forebay {} is ready", env!("CARGO_PKG_VERSION"))))?;
    say(&format!("  data   {}", config.data.display()))?;
    for door in &running.doors {
        let note = door.note.as_deref().map_or(String::new(), |note| format!(" ({note})"));
        say(&format!("  {:<5}  {}{note}", door.door, door.address))?;
    }
    say(&format!("  gate   {}", gate(running)))?;
    if config.file.is_some() {
        return Ok(());
    }
    let options = match &context.global.data {
        Some(data) => format!(" --data {}", data.display()),
        None => String::new(),
    };
    say("")?;
    let password = match &running.demo_password {
        Some(password) => {
            say(&format!("partner {DEMO_PARTNER}, password {}", strong(password)))?;
            say(&format!("it is shown this once; for a new one: forebay{options} partner passwd {DEMO_PARTNER}"))?;
            say("")?;
            password.as_str()
        }
        None => "PASSWORD",
    };
    if let Some(ftp) = running.ftp {
        say(&format!("upload          curl -T FILE ftp://{DEMO_PARTNER}:{password}@{ftp}/"))?;
    }
    if let Some(sftp) = running.sftp {
        say(&format!("or by SFTP      sftp -P {} {DEMO_PARTNER}@{}", sftp.port(), sftp.ip()))?;
    }
    say(&format!("look            forebay{options} queue list"))?;
    say(&format!("close the gate  forebay{options} gate close --for 10m --reason \"System maintenance\""))?;
    say(&format!("open it again   forebay{options} gate open --reason \"done early\""))
}

/// For routes that no window names.
fn gate(running: &Running) -> String {
    let gate = running.gate();
    match gate.state(&Scope::Route("*".to_owned())) {
        State::Open { closes_at: Some(at) } => format!("open, closes at {}", gate.local(at)),
        State::Open { closes_at: None } => "open".to_owned(),
        State::Closed(closure) => match closure.until {
            Some(at) => format!("closed, resumes at {}", gate.local(at)),
            None => "closed until it is opened".to_owned(),
        },
    }
}

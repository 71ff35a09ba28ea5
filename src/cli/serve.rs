//! `forebay serve`: runs the server until a signal stops it.

use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{
    context::{Context, say},
    paint::Tone,
};
use crate::{
    config::Config,
    descriptors,
    gate::{Scope, State},
    operate::Problem,
    server::{DEMO_PARTNER, Running},
    telemetry,
};

/// The addresses of the doors with no configuration.
const FTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2121);
const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Runs the server.
pub(super) async fn run(context: &Context) -> Result<(), Problem> {
    let mut config = context.config()?;
    if config.file.is_none() {
        config.ftp.listen = FTP;
        config.web.listen = Some(WEB);
    }
    telemetry::start(&config.log);
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
    let running = Running::start(config.clone(), context.clock.clone()).await?;
    if let Err(problem) = greet(context, &config, &running) {
        // Whoever read it may be gone; the server is not.
        warn!("the greeting was not printed: {problem}");
    }
    systemd(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(context, &running).await,
        }
    }
    systemd(&[sd_notify::NotifyState::Stopping]);
    info!("stopping: uploads and processing get their time; a second signal stops at once");
    tokio::select! {
        () = running.shutdown() => Ok(()),
        _ = term.recv() => Err(Problem::failed("stopped at once; running uploads and attempts are recovered at the next start")),
        _ = interrupt.recv() => Err(Problem::failed("stopped at once; running uploads and attempts are recovered at the next start")),
    }
}

async fn reload(context: &Context, running: &Running) {
    match context.config() {
        Ok(config) => running.reload(&config).await,
        Err(problem) => warn!("forebay.toml has faults and was not read again: {problem}"),
    }
}

pub(super) fn systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot notify systemd");
    }
}

/// Says where the doors are and, with no configuration, what to do with them.
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
    say(&format!("upload          curl -T FILE ftp://{DEMO_PARTNER}:{password}@{}/", running.ftp))?;
    if let Some(sftp) = running.sftp {
        say(&format!("or by SFTP      sftp -P {} {DEMO_PARTNER}@{}", sftp.port(), sftp.ip()))?;
    }
    say(&format!("look            forebay{options} queue list"))?;
    say(&format!("close the gate  forebay{options} gate close --for 10m --reason \"System maintenance\""))?;
    say(&format!("open it again   forebay{options} gate open --reason \"done early\""))
}

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

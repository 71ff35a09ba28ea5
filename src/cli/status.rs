//! `forebay status`.
//!
//! What needs an operator stands last, where the eye is when the command returns. Works without a
//! server too, and says so.

use super::{
    context::{Answered, Context, say},
    gate,
    paint::{Paint, Tone, visible},
    queue,
};
use crate::{
    operate::{DiskView, Problem, Reply, Request, StatusView, time_input},
    units,
};

/// Prints the server in figures.
pub(super) async fn run(context: &Context) -> Result<(), Problem> {
    let mut answered = context.ask(Request::Status).await?;
    while let Some(reply) = answered.reply().await? {
        let Reply::Status(status) = reply else { continue };
        if context.json() {
            context.object(&status)?;
        } else {
            show(context, &answered, &status)?;
        }
    }
    Ok(())
}

fn show(context: &Context, answered: &Answered, status: &StatusView) -> Result<(), Problem> {
    show_server(context.paint, answered, status)?;
    say(&visible(&format!("data: {}", status.data)))?;
    // Without a server there are no sessions, and a zero would say that nobody has come.
    if answered.live {
        say(&format!("sessions: {}", status.sessions.len()))?;
    }
    show_sessions(answered, status)?;
    show_folders(status)?;
    gate::show(context, answered, &status.gate)?;
    show_queue(answered, status)?;
    for program in &status.programs {
        say(&visible(&format!("programs of route {}: {}", program.route, program.note)))?;
    }
    say(&format!(
        "disk: {} free of {}, {} in reserve",
        units::format_bytes(status.disk.free_bytes),
        units::format_bytes(status.disk.total_bytes),
        units::format_bytes(status.disk.reserve_bytes)
    ))?;
    // Some file systems make inodes as they are needed.
    if status.disk.total_inodes > 0 {
        let DiskView { free_inodes, total_inodes, reserve_inodes, .. } = status.disk;
        say(&format!("inodes: {free_inodes} free of {total_inodes}, {reserve_inodes} in reserve"))?;
    }
    if status.log.lost_lines > 0 {
        let why = status.log.why.as_deref().unwrap_or("it is not known why");
        say(&visible(&format!("log: {} lines could not be written since the start: {why}", status.log.lost_lines)))?;
    }
    show_needs(context.paint, status)
}

fn show_server(paint: Paint, answered: &Answered, status: &StatusView) -> Result<(), Problem> {
    match &status.server {
        Some(server) => {
            let up = time_input::span(answered.now - server.started_at);
            let running = paint.tone(Tone::Good, "running");
            say(&format!("server: {running}, version {}, process {}, up {up}", server.version, server.pid))?;
            for door in &server.doors {
                let note = door.note.as_deref().map_or(String::new(), |note| format!(" ({note})"));
                say(&visible(&format!("door: {} on {}{note}", door.door, door.address)))?;
            }
            if let Some(at) = server.certificate_ends_at {
                say(&format!("certificate: ends {}", answered.long(at)))?;
            }
        }
        None => say(&format!("server: {}; start it with `forebay serve`", paint.tone(Tone::Bad, "not running")))?,
    }
    Ok(())
}

/// At most twenty: `forebay sessions` shows all.
fn show_sessions(answered: &Answered, status: &StatusView) -> Result<(), Problem> {
    for session in status.sessions.iter().take(20) {
        let since = session.since.map_or(String::new(), |at| format!(", since {}", answered.at(at)));
        let doing = match session.doing.as_str() {
            "" => String::new(),
            doing => format!(": {doing}, {} a second", units::format_bytes(session.bytes_per_second)),
        };
        let who = format!("      {} by {} from {}{since}{doing}", session.partner, session.door, session.peer);
        say(&visible(&who))?;
    }
    Ok(())
}

fn show_folders(status: &StatusView) -> Result<(), Problem> {
    for folder in &status.folders {
        let (directory, taken, waiting) = (&folder.directory, folder.taken, folder.waiting);
        let failing = match folder.failing_count {
            0 => String::new(),
            count => format!(", {count} failing"),
        };
        say(&visible(&format!("folder: {directory}: {taken} taken since the start, {waiting} waiting{failing}")))?;
    }
    Ok(())
}

fn show_queue(answered: &Answered, status: &StatusView) -> Result<(), Problem> {
    say(&format!("queue: {}", queue::summary(&status.queue)))?;
    for running in &status.active {
        let line = format!(
            "      runs: {}/{} on {}, attempt {}",
            running.partner, running.name, running.route, running.attempt
        );
        say(&visible(&line))?;
    }
    for line in queue::blocked(&status.queue, answered).iter().chain(&queue::paused(&status.queue, answered)) {
        say(&format!("      {}", visible(line)))?;
    }
    Ok(())
}

fn show_needs(paint: Paint, status: &StatusView) -> Result<(), Problem> {
    if status.needs.is_empty() {
        return say(&paint.tone(Tone::Good, "nothing needs an operator"));
    }
    say(&paint.tone(Tone::Bad, "needs an operator:"))?;
    for need in &status.needs {
        say(&format!("  - {}", visible(need)))?;
    }
    Ok(())
}

//! How many processes a second this machine starts and reaps: the ceiling of any processor that is a program.
//!
//! `spawn_rate CONCURRENCY COUNT PROGRAM [ARGUMENT…]` prints one JSON object.
#![allow(clippy::disallowed_methods, reason = "a stopwatch, not a decision that depends on time")]

use std::{
    env,
    error::Error,
    io,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [concurrency, count, command @ ..] = arguments.as_slice() else {
        return Err("spawn_rate CONCURRENCY COUNT PROGRAM [ARGUMENT...]".into());
    };
    let (concurrency, count) = (concurrency.parse::<usize>()?, count.parse::<usize>()?);
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..concurrency).map(|_| scope.spawn(|| work(&next, count, command))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    println!("{{\"processes\":{count},\"seconds\":{seconds:.4},\"processes_per_second\":{rate:.1}}}");
    Ok(())
}

fn work(next: &AtomicUsize, count: usize, command: &[String]) -> io::Result<()> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no program"))?;
    while next.fetch_add(1, Ordering::Relaxed) < count {
        let status = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("{program} ended with {status}")));
        }
    }
    Ok(())
}

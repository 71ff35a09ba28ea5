//! What the disk itself can do: files created, written, synced, renamed into place, and their directory synced, by a
//! number of threads. No server that keeps its word with a file of its own for each upload can be faster for long.
//!
//! `disk_limit DIRECTORY THREADS FILES BYTES` prints one JSON object.
#![allow(clippy::disallowed_methods, reason = "a stopwatch, not a decision that depends on time")]

use std::{
    env,
    error::Error,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, threads, files, bytes] = arguments.as_slice() else {
        return Err("disk_limit DIRECTORY THREADS FILES BYTES".into());
    };
    let directory = Path::new(directory);
    let (threads, files, bytes) = (threads.parse::<usize>()?, files.parse::<usize>()?, bytes.parse::<usize>()?);
    fs::create_dir_all(directory.join("tmp"))?;
    fs::create_dir_all(directory.join("spool"))?;
    let seconds = measure(directory, threads, files, bytes)?;
    let rate = files as f64 / seconds;
    println!("{{\"threads\":{threads},\"files\":{files},\"seconds\":{seconds:.4},\"files_per_second\":{rate:.1}}}");
    Ok(())
}

fn measure(directory: &Path, threads: usize, files: usize, bytes: usize) -> io::Result<f64> {
    let next = AtomicUsize::new(0);
    let start = Barrier::new(threads + 1);
    let content = vec![0x5a; bytes];
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= files {
                            return Ok(());
                        }
                        keep(directory, number, &content)?;
                    }
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        for worker in workers {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
        }
        Ok(began.elapsed().as_secs_f64())
    })
}

fn keep(directory: &Path, number: usize, content: &[u8]) -> io::Result<()> {
    let aside = directory.join("tmp").join(number.to_string());
    let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, directory.join("spool").join(number.to_string()))?;
    File::open(directory.join("spool"))?.sync_all()
}

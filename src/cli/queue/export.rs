//! `forebay queue export`: a file's bytes, checked.
//!
//! The bytes go to a file beside the target, which gets the target's name only when the server has
//! found size and digest to be those that were accepted. Standard output, devices and pipes get the
//! bytes as they come, and the exit code says whether they were right.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::cli::{context::Context, progress::Progress};
use crate::operate::{Piece, Problem, Reply, Request};

/// Writes the bytes of a file to `file`, or to standard output without one.
///
/// # Errors
/// As the server's answer, or when the target cannot be written; then no target is left, and an
/// earlier file of that name stays.
pub(super) async fn run(context: &Context, id: String, file: Option<PathBuf>) -> Result<(), Problem> {
    let mut answered = context.ask(Request::QueueExport { id }).await?;
    let file = file.filter(|file| file.as_os_str() != "-");
    let mut target: Option<(Box<dyn Write + Send>, Option<PathBuf>)> = None;
    let progress = Progress::new(&context.clock, context.json() || file.is_none());
    let (mut done, mut total) = (0, 0);
    let outcome: Result<(), Problem> = async {
        while let Some(piece) = answered.next().await? {
            match piece {
                Piece::Reply(Reply::File(view)) => {
                    total = view.size_bytes;
                    target = Some(open(file.as_deref())?);
                }
                Piece::Bytes(bytes) => {
                    if let Some((target, _)) = &mut target {
                        target.write_all(&bytes).map_err(|error| cannot(file.as_deref(), &error))?;
                    }
                    done += bytes.len() as u64;
                    progress.at("bytes", done, total);
                }
                Piece::Reply(_) => {}
            }
        }
        Ok(())
    }
    .await;
    progress.end();
    let Some((mut target, aside)) = target else { return outcome };
    let flushed = outcome.and_then(|()| target.flush().map_err(|error| cannot(file.as_deref(), &error)));
    match (aside, &file) {
        // Only bytes that have proved to be the accepted ones get the name.
        (Some(aside), Some(file)) if flushed.is_ok() => {
            fs::rename(aside, file).map_err(|error| cannot(Some(file), &error))
        }
        (Some(aside), _) => {
            let _ = fs::remove_file(aside);
            flushed
        }
        (None, _) => flushed,
    }
}

/// The second is the name to be renamed, if it is a file.
fn open(file: Option<&Path>) -> Result<(Box<dyn Write + Send>, Option<PathBuf>), Problem> {
    let Some(file) = file else { return Ok((Box::new(io::stdout()), None)) };
    if file.exists() && !file.is_file() {
        // A device or a pipe is written to as it is.
        let target = OpenOptions::new().write(true).open(file).map_err(|error| cannot(Some(file), &error))?;
        return Ok((Box::new(target), None));
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    // In the same directory: a rename does not leave its file system.
    name.push(format!(".{}.part", std::process::id()));
    let aside = file.with_file_name(name);
    let target = File::create(&aside).map_err(|error| cannot(Some(&aside), &error))?;
    Ok((Box::new(target), Some(aside)))
}

/// A reader of standard output that goes has seen enough.
fn cannot(file: Option<&Path>, error: &io::Error) -> Problem {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Problem::gone();
    }
    let place = file.map_or("standard output".to_owned(), |file| file.display().to_string());
    Problem::failed(format!("cannot write {place}: {error}"))
}

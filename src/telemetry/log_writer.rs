//! The writer of the log: lines go to standard error by a thread of their own, and nobody waits for them.
//!
//! # Guarantees
//! Whoever logs never blocks, never fails and never panics for it: neither a full file system behind standard error, nor a
//! reader that is gone or stands still has a say in what becomes of a file. What cannot be written is counted.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for a reader that is slow, in bytes.
const MOST_WAITING: usize = 4 << 20;

/// The state of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Lines that could not be written since the start.
    pub lost_lines: u64,
    /// Why the latest of them could not.
    pub why: Option<String>,
    /// True if the latest line was lost: the log is still broken.
    pub is_broken: bool,
}

/// The one writer of this process.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// The state of this process's log.
#[must_use]
pub fn log_state() -> LogState {
    WRITER.get().map_or_else(LogState::default, LogWriter::state)
}

/// Waits until all lines are written or lost, for at most so long. False: standard error stands still.
pub fn finish_log(patience: Duration) -> bool {
    WRITER.get().is_none_or(|writer| writer.finish(patience))
}

/// The writer to standard error, started when it is first asked for.
pub(super) fn to_standard_error() -> LogWriter {
    WRITER.get_or_init(|| LogWriter::start(Box::new(io::stderr()))).clone()
}

/// What a line is written to. Its write may block: it is called by the writer's thread alone.
trait Target: Send {
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Target for io::Stderr {
    /// Past the lock of the standard library, which others may want while this blocks.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.as_fd(), bytes)?)
    }
}

/// A handle on the writer. All are the same.
#[derive(Clone, Debug)]
pub(super) struct LogWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// The thread has taken a line and is not done with it.
    is_writing: bool,
    state: LogState,
}

impl LogWriter {
    fn start(target: Box<dyn Target>) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        // Of its own and not of the runtime: it blocks for as long as standard error does.
        let started = thread::Builder::new().name("log".to_owned()).spawn(move || own.write_all(&*target));
        if let Err(error) = started {
            let mut lines = shared.lines.lock();
            lines.state.why = Some(format!("no thread for it: {error}"));
            // Every line is one too many from now on.
            lines.waiting_bytes = MOST_WAITING;
        }
        Self(shared)
    }

    fn state(&self) -> LogState {
        self.0.lines.lock().state.clone()
    }

    fn finish(&self, patience: Duration) -> bool {
        let mut lines = self.0.lines.lock();
        let is_busy = |lines: &mut Lines| lines.is_writing || !lines.waiting.is_empty();
        !self.0.changed.wait_while_for(&mut lines, is_busy, patience).timed_out()
    }
}

impl Shared {
    fn take(&self, line: &[u8]) {
        let mut lines = self.lines.lock();
        // The newest is dropped: what is waiting already is older and may be what began the
        // trouble.
        if lines.waiting_bytes + line.len() > MOST_WAITING {
            let why = lines.state.why.take().unwrap_or_else(|| "whoever reads it does not keep up".to_owned());
            lines.state.lose(why);
            return;
        }
        lines.waiting_bytes += line.len();
        lines.waiting.push_back(line.to_vec());
        self.changed.notify_all();
    }

    /// The thread's work. It ends with the process.
    fn write_all(&self, target: &dyn Target) {
        loop {
            let line = self.next();
            let written = write_line(target, &line);
            let mut lines = self.lines.lock();
            // Only after the write: a line that hangs counts as waiting.
            lines.waiting_bytes -= line.len();
            lines.is_writing = false;
            match written {
                Ok(()) => lines.state.is_broken = false,
                Err(error) => lines.state.lose(error.to_string()),
            }
            // For `finish`, which waits for the last one.
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut lines = self.lines.lock();
        loop {
            if let Some(line) = lines.waiting.pop_front() {
                lines.is_writing = true;
                return line;
            }
            self.changed.wait(&mut lines);
        }
    }
}

impl LogState {
    fn lose(&mut self, why: String) {
        self.lost_lines += 1;
        self.why = Some(why);
        self.is_broken = true;
    }
}

fn write_line(target: &dyn Target, line: &[u8]) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        match target.write(rest) {
            // It would go round for ever.
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody else has made it so, and shares it with us.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One event's place to write to. It never fails.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a Shared);

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    /// A target that fails when it is told to, and keeps what it was given.
    #[derive(Debug, Default)]
    struct Fake {
        is_full: AtomicBool,
        stands: Mutex<()>,
        text: Mutex<Vec<u8>>,
    }

    impl Target for Arc<Fake> {
        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            let _stands = self.stands.lock();
            if self.is_full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // In pieces, as a pipe takes them.
            let piece = &bytes[..bytes.len().min(7)];
            self.text.lock().extend_from_slice(piece);
            Ok(piece.len())
        }
    }

    const BOUND: Duration = Duration::from_secs(20);

    fn log(writer: &LogWriter, line: &str) {
        writer.make_writer().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_line_is_tried() {
        let target = Arc::new(Fake::default());
        let writer = LogWriter::start(Box::new(Arc::clone(&target)));
        log(&writer, "first line\n");
        assert!(writer.finish(BOUND));
        assert_eq!(writer.state(), LogState::default());
        target.is_full.store(true, Ordering::SeqCst);
        log(&writer, "second line\n");
        log(&writer, "third line\n");
        assert!(writer.finish(BOUND));
        let state = writer.state();
        assert_eq!((state.lost_lines, state.is_broken), (2, true), "{state:?}");
        assert!(state.why.is_some());
        target.is_full.store(false, Ordering::SeqCst);
        log(&writer, "fourth line\n");
        assert!(writer.finish(BOUND));
        assert_eq!((writer.state().lost_lines, writer.state().is_broken), (2, false));
        assert_eq!(&*target.text.lock(), b"first line\nfourth line\n");
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stands_still() {
        let target = Arc::new(Fake::default());
        let writer = LogWriter::start(Box::new(Arc::clone(&target)));
        let stands = target.stands.lock();
        let line = "x".repeat(1 << 20);
        for _ in 0..10 {
            log(&writer, &line);
        }
        let state = writer.state();
        assert!(state.lost_lines >= 6 && state.is_broken, "{state:?}");
        assert!(!writer.finish(Duration::from_millis(1)));
        drop(stands);
        assert!(writer.finish(BOUND));
        assert_eq!(target.text.lock().len(), (10 - usize::try_from(state.lost_lines).unwrap()) << 20);
        assert!(!writer.state().is_broken);
    }
}

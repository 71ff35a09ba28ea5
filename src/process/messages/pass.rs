//! The pass over a whole file before any of its messages is handed over.
//!
//! It finds how many messages there are, whether the bytes are what was accepted, and what is wrong with the envelopes. What
//! follows from that the route says ([`MessageOptions`]); the worst of it holds.

use std::{
    io::{self, Read},
    sync::Arc,
};

use forebay_queue::{Entry, MessageSource};
use forebay_storage::Sha256;
use sha2::Digest;
use tokio::task;

use crate::{
    contents::OpenContent,
    envelope::hl7::{self, Fault, Report},
    process::{Outcome, Stop, sink::cannot_place},
    routes::{Judgement, MessageOptions},
};

/// So many faults are named in a reason.
const NAMED: usize = 3;

/// What the pass found.
#[derive(Debug)]
pub(super) struct Passed {
    /// The messages as they are counted.
    pub(super) source: MessageSource,
    /// What becomes of the file, if not all its messages are handed over.
    pub(super) verdict: Option<Outcome>,
    /// Faults that change nothing.
    pub(super) warnings: Vec<String>,
}

/// Reads the whole file.
///
/// # Errors
/// The outcome of the attempt: when the file cannot be read, is not what was accepted, or the attempt is to stop.
pub(super) async fn pass(
    content: &OpenContent,
    entry: &Entry,
    options: &MessageOptions,
    stop: &Arc<Stop>,
) -> Result<Passed, Outcome> {
    let (content, stop, limits) = (content.clone(), Arc::clone(stop), hl7::Limits { max_message: options.max_message });
    let work = task::spawn_blocking(move || {
        let mut reader = Hashed { inner: content.reader(), hasher: sha2::Sha256::new(), bytes: 0, stop };
        let report = hl7::inspect(&mut reader, limits);
        // A file that is refused at its beginning is read on: whether it is what was accepted comes first.
        report.and_then(|report| io::copy(&mut reader, &mut io::sink()).map(|_| (report, reader)))
    });
    let read = work.await.map_err(|error| Outcome::Failed { reason: format!("reading the messages: {error}") })?;
    let (report, reader) = read.map_err(|error| unreadable(&error))?;
    let sha256 = Sha256(reader.hasher.finalize().into());
    if (reader.bytes, sha256) != (entry.size_bytes, entry.sha256) {
        return Err(Outcome::Hold { reason: format!("file {} is not what was accepted", entry.id) });
    }
    let source = MessageSource { messages: report.messages, sha256 };
    let (verdict, warnings) = judge(&report, options);
    Ok(Passed { source, verdict, warnings })
}

/// What a reader says that was asked to stop, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StopAsked(String);

/// The outcome of an attempt whose file cannot be read to its end.
pub(super) fn unreadable(error: &io::Error) -> Outcome {
    let inner = error.get_ref();
    if let Some(StopAsked(reason)) = inner.and_then(|inner| inner.downcast_ref()) {
        return Outcome::Stopped { reason: reason.clone() };
    }
    match inner.and_then(|inner| inner.downcast_ref()) {
        Some(error) => cannot_place(error),
        None => Outcome::BackendDown { reason: format!("cannot read the file: {error}") },
    }
}

/// What becomes of a file with these faults, and what else is told of them.
fn judge(report: &Report, options: &MessageOptions) -> (Option<Outcome>, Vec<String>) {
    let judged: Vec<_> = report.faults.iter().filter_map(|fault| Some((judgement(fault, options)?, fault))).collect();
    let worst = judged.iter().map(|(judgement, _)| *judgement).max();
    let named = |wanted: Judgement| -> Vec<String> {
        let faults = judged.iter().filter(|(judgement, _)| *judgement == wanted);
        faults.take(NAMED).map(|(_, fault)| fault.to_string()).collect()
    };
    let verdict = match worst {
        None | Some(Judgement::Warn) => None,
        Some(worst) => {
            let reason = named(worst).join("; ");
            Some(match worst {
                Judgement::Reject => Outcome::Quarantine { reason },
                _ => Outcome::Hold { reason: format!("{reason}: release it to have its messages handed over") },
            })
        }
    };
    (verdict, named(Judgement::Warn))
}

/// What follows from a fault for the file. None: it is the message's own, or nobody's.
fn judgement(fault: &Fault, options: &MessageOptions) -> Option<Judgement> {
    match fault {
        Fault::NoHeader | Fault::Utf16 => Some(Judgement::Reject),
        Fault::Outside { .. } => Some(options.outside),
        Fault::NoTrailer { .. } | Fault::NoHeaderFor { .. } => Some(options.truncation),
        Fault::Count { .. } => Some(options.counts),
        Fault::Repeated { .. } => Some(options.repeated),
        Fault::Continued { .. } => Some(Judgement::Warn),
        Fault::Missing { .. } | Fault::TooLong { .. } => None,
    }
}

/// Hashes what is read, until it is to stop.
struct Hashed<R> {
    inner: R,
    hasher: sha2::Sha256,
    bytes: u64,
    stop: Arc<Stop>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_asked() {
            return Err(io::Error::other(StopAsked(self.stop.why().to_owned())));
        }
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> MessageOptions {
        toml::from_str(&format!("format = \"hl7v2\"\n{text}")).unwrap()
    }

    fn verdict(file: &str, text: &str) -> Option<Outcome> {
        let options = options(text);
        let limits = hl7::Limits { max_message: options.max_message };
        judge(&hl7::inspect(file.as_bytes(), limits).unwrap(), &options).0
    }

    const MESSAGE: &str = "MSH|^~\\&|A|B|C|D|2026||VXU^V04|M1|P|2.5.1\rPID|1\r";

    #[test]
    fn the_worst_fault_decides() {
        let holds = |outcome: Option<Outcome>| matches!(outcome, Some(Outcome::Hold { .. }));
        let rejects = |outcome: Option<Outcome>| matches!(outcome, Some(Outcome::Quarantine { .. }));
        assert_eq!(verdict(MESSAGE, ""), None);
        let cut = format!("BHS|^~\\&|A\r{MESSAGE}");
        assert!(holds(verdict(&cut, "")));
        assert_eq!(verdict(&cut, "truncation = \"warn\""), None);
        assert!(rejects(verdict(&cut, "truncation = \"reject\"")));
        let miscounted = format!("BHS|^~\\&|A\r{MESSAGE}BTS|7\r");
        assert_eq!(verdict(&miscounted, ""), None);
        assert!(holds(verdict(&miscounted, "counts = \"hold\"")));
        let both = format!("BHS|^~\\&|A\r{MESSAGE}BTS|7\rBHS|^~\\&|A\r{MESSAGE}");
        assert!(rejects(verdict(&both, "counts = \"reject\"")), "the worse of two");
        assert!(holds(verdict(&format!("lost\r{MESSAGE}"), "")));
        assert!(rejects(verdict("no message at all", "outside = \"warn\"")));
        assert!(rejects(verdict("", "")), "an empty file has no header");
    }

    #[test]
    fn a_fault_behind_a_thousand_others_decides_all_the_same() {
        let mut file = MESSAGE.repeat(1_500);
        file.push_str("BTS|1\r");
        assert!(matches!(verdict(&file, "truncation = \"reject\""), Some(Outcome::Quarantine { .. })));
    }
}

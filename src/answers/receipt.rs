//! The receipt of one file: `<name>.<id>.receipt.json`.
//!
//! Its length must not depend on the state, since a listing tells it before anybody reads, and
//! clients that download by the size would cut or wait. So the text is padded to one of two
//! lengths. A new field must fit into what the shorter one leaves.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use forebay_queue::{Entry, State};
use forebay_storage::FileId;
use serde::Serialize;

use super::Standing;
use crate::gate;

const END: &str = ".receipt.json";
const NAME_MAX_BYTES: usize = 255;
/// The length of a receipt of a file whose name is short, as JSON has it, and of any other: whatever is said besides the
/// name fits into what is left.
const SHORT_NAME_BYTES: usize = 300;
const SHORT_BYTES: usize = 1 << 10;
const LONG_BYTES: usize = 4 << 10;

/// A receipt. `version` rises when the meaning of a field changes.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Receipt<'a> {
    version: u8,
    id: FileId,
    name: &'a str,
    bytes: u64,
    sha256: String,
    received: DateTime<Utc>,
    state: State,
    deferred: bool,
    resumes: Option<DateTime<Utc>>,
    text: String,
    updated: DateTime<Utc>,
}

impl<'a> Receipt<'a> {
    /// The receipt of an entry as it and the gate stand.
    pub(super) fn of(entry: &'a Entry, gate: &gate::State, zone: Tz) -> Self {
        let closure = match gate {
            gate::State::Closed(closure) if entry.state.waits() => Some(closure),
            _ => None,
        };
        let text = match closure {
            Some(closure) => {
                format!("deferred until {}", closure.until.map_or("further notice".into(), |at| local(at, zone)))
            }
            None => words(entry, zone),
        };
        Self {
            version: 1,
            id: entry.id,
            name: &entry.name,
            bytes: entry.size_bytes,
            sha256: entry.sha256.to_string(),
            received: entry.received_at,
            state: entry.state,
            deferred: closure.is_some(),
            resumes: closure.and_then(|closure| closure.until),
            text,
            updated: entry.since,
        }
    }

    /// The part of it that follows from its state and the gate.
    pub(super) fn standing(self) -> Standing {
        Standing { is_deferred: self.deferred, resumes_at: self.resumes, text: self.text }
    }

    /// The text, padded to its length with blanks before the last line end.
    pub(super) fn render(&self) -> Bytes {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        // Never cut: a text that is longer than it should be stays whole, and the listing is wrong
        // by that much.
        text.resize(length(self.name).max(text.len() + 1) - 1, b' ');
        text.push(b'\n');
        text.into()
    }
}

/// The length of an entry's receipt in bytes, whatever its state.
pub(super) fn size_bytes(entry: &Entry) -> u64 {
    length(&entry.name) as u64
}

fn length(name: &str) -> usize {
    // JSON writes these two with a backslash; control characters do not come into names.
    let escaped = name.bytes().map(|byte| 1 + usize::from(matches!(byte, b'"' | b'\\'))).sum::<usize>();
    if escaped <= SHORT_NAME_BYTES { SHORT_BYTES } else { LONG_BYTES }
}

fn local(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z").to_string()
}

/// The sentence for the partner: what became of the file and what is to be done. Reasons and outputs are the operator's.
fn words(entry: &Entry, zone: Tz) -> String {
    match entry.state {
        State::Unfinished => "kept under a temporary name, waits for its final name".to_owned(),
        State::Ready => "accepted, waits for processing".to_owned(),
        State::Active => "accepted, being processed".to_owned(),
        State::Retrying => match entry.due_at {
            Some(at) => format!("accepted, processing is tried again at {}", local(at, zone)),
            None => "accepted, processing is tried again".to_owned(),
        },
        State::Held => "accepted and kept, waits for an operator; there is no need to send it again".to_owned(),
        State::Done => format!("processed at {}", local(entry.since, zone)),
        State::Quarantined => "not processed: its content was found to be bad".to_owned(),
        State::Dead => "could not be processed, waits for an operator; there is no need to send it again".to_owned(),
        State::Cancelled => "cancelled".to_owned(),
        State::Duplicate => "not processed again: the same file was processed shortly before".to_owned(),
        State::Superseded => "continued by a later upload, which is processed in its place".to_owned(),
        State::Withdrawn => String::new(),
    }
}

/// The file's last name, its id, and the ending, in at most 255 bytes.
pub(super) fn file_name(entry: &Entry) -> String {
    let end = format!(".{}{END}", entry.id);
    let last = entry.name.rsplit('/').next().unwrap_or_default();
    // A control character in a file name would break listings that have one line a file.
    let last: String = last.chars().map(|char| if char.is_control() { '_' } else { char }).collect();
    // The name gives way, not the id: by the id the file is found again.
    let cut = last.floor_char_boundary(NAME_MAX_BYTES - end.len());
    format!("{}{end}", &last[..cut])
}

/// The file that a receipt's name is about.
pub(super) fn id_of(file_name: &str) -> Option<FileId> {
    file_name.strip_suffix(END)?.rsplit('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use forebay_storage::Sha256;

    use super::*;

    fn entry(name: &str, state: State) -> Entry {
        let at = DateTime::from_timestamp(1_777_075_200, 0).unwrap();
        Entry {
            id: FileId::new(at),
            turn: 1,
            partner: "demo".to_owned(),
            name: name.to_owned(),
            door: "ftp".to_owned(),
            size_bytes: 3,
            sha256: Sha256([7; 32]),
            received_at: at,
            route: Some("rest".to_owned()),
            state,
            since: at,
            reason: Some("exit 1 of a secret program".to_owned()),
            attempts: 0,
            due_at: None,
            failing_since: None,
            lease: None,
            crashes: 0,
            changed_seq: 1,
            not_duplicate: false,
            hold: None,
            begun: false,
            supersedes: None,
            superseded: None,
            claimable_from: None,
            content: None,
            receipt_hidden: false,
            messages: None,
            continues: None,
        }
    }

    fn closed() -> gate::State {
        gate::State::Closed(gate::Closure {
            until: DateTime::from_timestamp(1_777_086_000, 0),
            since: None,
            name: "n".to_owned(),
            reason: String::new(),
            message: String::new(),
            cause: gate::Cause::Window,
        })
    }

    #[test]
    fn a_deferred_file_says_until_when_in_the_zone() {
        let entry = entry("a.hl7", State::Ready);
        let receipt = Receipt::of(&entry, &closed(), Tz::America__Chicago);
        assert_eq!(receipt.text, "deferred until 2026-04-24 22:00 CDT");
        assert!(receipt.deferred);
        let open = gate::State::Open { closes_at: None };
        let receipt = Receipt::of(&entry, &open, Tz::America__Chicago);
        assert_eq!((receipt.deferred, receipt.text.as_str()), (false, "accepted, waits for processing"));
    }

    #[test]
    fn an_outcome_is_told_whatever_the_gate_and_without_the_operators_words() {
        for state in State::ALL {
            let entry = entry("a", state);
            let receipt = Receipt::of(&entry, &closed(), Tz::UTC);
            assert_eq!(receipt.deferred, state.waits());
            assert!(!serde_json::to_string(&receipt).unwrap().contains("secret"));
        }
    }

    #[test]
    fn the_length_is_that_of_the_listing_whatever_the_state() {
        for name in ["a", &"x".repeat(300), &"\"".repeat(1024), &"ü".repeat(512)] {
            for state in State::ALL {
                let mut entry = entry(name, state);
                entry.due_at = Some(entry.since);
                let text = Receipt::of(&entry, &closed(), Tz::America__Chicago).render();
                assert_eq!(text.len() as u64, size_bytes(&entry), "{state}");
                let read: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
                assert_eq!(read["name"], name);
            }
        }
    }

    #[test]
    fn names_are_one_component_within_the_bound_and_tell_the_id() {
        for name in ["a.hl7", "deep/down/a.hl7", &"ü".repeat(300), "bad\u{1b}[31m", &"x".repeat(255)] {
            let entry = entry(name, State::Ready);
            let file = file_name(&entry);
            assert!(file.len() <= 255 && !file.contains(['/', '\u{1b}']), "{file}");
            assert_eq!(id_of(&file), Some(entry.id));
        }
        assert_eq!(id_of("NOTICE.txt"), None);
        assert_eq!(id_of("x.receipt.json"), None);
    }
}

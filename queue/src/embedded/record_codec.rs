//! How a record stands in the journal: one version byte, then JSON.

use crate::{QueueError, Record, Result};

/// The version that this program writes.
const VERSION: u8 = 3;
/// The oldest that it reads.
const OLDEST: u8 = 1;

/// The bytes of a record.
pub(super) fn encode(record: &Record) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(384);
    bytes.push(VERSION);
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| QueueError::Io { doing: "cannot write a journal record".into(), source: error.into() })?;
    Ok(bytes)
}

/// The record that these bytes are.
pub(super) fn decode(seq: u64, bytes: &[u8]) -> Result<Record> {
    match bytes.split_first() {
        Some((&(OLDEST..=VERSION), json)) => serde_json::from_slice(json)
            .map_err(|error| QueueError::Unreadable(format!("journal record {seq} cannot be read: {error}"))),
        Some((&version, _)) if version > VERSION => Err(QueueError::Unreadable(format!(
            "journal record {seq} has format {version}, and this version reads {VERSION}: it was written by a newer \
             Forebay, so start that one"
        ))),
        _ => Err(QueueError::Unreadable(format!("journal record {seq} has no known format"))),
    }
}

//! The journal's records in sentences.
//!
//! Sentences are for people and may change; `what` and `detail` are for programs and do not. Each
//! kind of record has its arm here without a catch-all, so a new one does not compile until it has
//! its sentence.

use forebay_queue::{Fact, Record};
use serde_json::Value;

use super::reply::RecordView;

/// The record as operators see it.
/// `what` is the record's tag as it is stored, but for notes, which carry their own topic, such as
/// `partner.add`.
#[must_use]
pub(super) fn view(seq: u64, record: &Record) -> RecordView {
    let detail = serde_json::to_value(&record.fact).unwrap_or(Value::Null);
    let what = match &record.fact {
        Fact::Noted { topic, .. } => topic.clone(),
        _ => detail.get("what").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
    };
    let output = match &record.fact {
        Fact::Ended { output, .. } => output.clone(),
        _ => String::new(),
    };
    RecordView {
        seq,
        at: record.at,
        actor: record.actor.to_string(),
        id: record.id,
        what,
        text: fact_text(&record.fact),
        output,
        detail,
    }
}

fn fact_text(fact: &Fact) -> String {
    match fact {
        Fact::Accepted { name, partner, door, size_bytes, state, route, reason, continues, .. } => {
            let served = route.as_deref().map_or("no route".to_owned(), |route| format!("route {route}"));
            let before = continues.as_ref().map_or(String::new(), |it| format!(" from byte {} of {}", it.at, it.of));
            let size = format!("{size_bytes} bytes{before}");
            because(format!("accepted {name} of {partner} by {door}, {size}, {served}: {state}"), reason)
        }
        Fact::Named { name, route, state, reason, .. } => {
            let served = route.as_deref().map_or("no route".to_owned(), |route| format!("route {route}"));
            because(format!("named {name}, {served}: {state}"), reason)
        }
        Fact::Started { attempt, .. } => format!("attempt {attempt} started"),
        Fact::Claimed { files, .. } => format!("{} files claimed, an attempt of each started", files.len()),
        Fact::Child { child, .. } => format!("runs as process group {}", child.pgid),
        Fact::Ended { state, counted, due_at, reason, .. } => {
            let due = due_at.map_or(String::new(), |at| format!(", due at {}", at.format("%Y-%m-%dT%H:%M:%SZ")));
            let note = if *counted { "" } else { " (not counted)" };
            because(format!("attempt ended{note}: {state}{due}"), reason)
        }
        Fact::Crashed { state, .. } => format!("the server's crash ended the attempt (not counted): {state}"),
        Fact::Duplicate { of } => format!("is a duplicate of {of}"),
        Fact::Held { reason, .. } => because("held".to_owned(), reason),
        Fact::Released { reason, .. } => because("released".to_owned(), reason),
        Fact::Requeued { reason, .. } => because("requeued".to_owned(), reason),
        Fact::Cancelled { reason } => because("cancelled".to_owned(), reason),
        Fact::Purged => "forgotten after its retention".to_owned(),
        Fact::Withdrawn { reason } => because("withdrawn: its sender never read the reply".to_owned(), reason),
        Fact::ReceiptHidden => "receipt deleted by the partner".to_owned(),
        Fact::FolderMade { partner, path } => format!("folder {path} of {partner} made"),
        Fact::FolderCarried { partner, path, .. } => format!("carried over as it stands: folder {path} of {partner}"),
        Fact::FolderRemoved { partner, path } => format!("folder {path} of {partner} removed"),
        Fact::Hidden { partner, path } => format!("{path} of {partner} removed from listings"),
        Fact::Moved { partner, from, to, .. } => format!("{from} of {partner} renamed to {to}"),
        Fact::TimeSet { partner, path, shows } => format!("{path} of {partner} shows the time {shows}"),
        Fact::ShownAt { partner, path, .. } => format!("shown as {path} of {partner}"),
        Fact::NamesForgotten { partner } => format!("names of {partner} forgotten"),
        Fact::Damaged { first, next } => format!("records {first} to {} were lost to damage", next.saturating_sub(1)),
        Fact::Carried { entry, .. } => format!("carried over as it stands: {}", entry.state),
        Fact::OriginsGone { files } => {
            format!("{} files that were taken from folders are gone from there", files.len())
        }
        Fact::Noted { text, .. } => text.clone(),
    }
}

/// The sentence, with the reason after a colon if there is one.
fn because(text: String, reason: &Option<String>) -> String {
    match reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}

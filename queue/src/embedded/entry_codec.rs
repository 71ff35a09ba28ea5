//! How an entry stands in the index: compact, and never read by another version (the index is made anew instead).

use chrono::{DateTime, Utc};
use forebay_storage::{FileId, Sha256};
use uuid::Uuid;

use super::index::Fault;
use crate::{Child, Entry, Hold, Lease, LeaseToken, State, Superseded};

/// An entry and where the journal speaks of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) entry: Entry,
    /// The record from which on the entry can be replayed: its acceptance, or the latest time it was carried.
    pub(super) basis: u64,
    /// Every record about it, ascending.
    pub(super) seqs: Vec<u64>,
    /// The file that had its name before it was accepted, and the time that file showed.
    pub(super) replaced: Option<(FileId, DateTime<Utc>)>,
}

/// The number of a state in keys and values. Never change one without a new `FORMAT` of the index.
pub(super) fn code(state: State) -> u8 {
    match state {
        State::Unfinished => 0,
        State::Ready => 1,
        State::Active => 2,
        State::Retrying => 3,
        State::Held => 4,
        State::Done => 5,
        State::Quarantined => 6,
        State::Dead => 7,
        State::Cancelled => 8,
        State::Duplicate => 9,
        State::Superseded => 10,
        State::Withdrawn => 11,
    }
}

/// The causes of holds by their numbers. Never change one without a new `FORMAT` of the index.
const HOLDS: [Hold; 11] = [
    Hold::NoRoute,
    Hold::Unconfirmed,
    Hold::ReplyNotRead,
    Hold::Evidence,
    Hold::NotRenamed,
    Hold::Adopted,
    Hold::BytesMissing,
    Hold::JournalDamage,
    Hold::Crashes,
    Hold::Processor,
    Hold::Operator,
];

pub(super) fn state(code: u8) -> Option<State> {
    State::ALL.into_iter().find(|state| self::code(*state) == code)
}

impl Stored {
    pub(super) fn encode(&self) -> Vec<u8> {
        let e = &self.entry;
        let mut out = Vec::with_capacity(160 + e.name.len());
        out.push(code(e.state));
        out.push(
            u8::from(e.not_duplicate)
                | u8::from(e.begun) << 1
                | u8::from(e.receipt_hidden) << 2
                | u8::from(e.content.is_some()) << 3,
        );
        put_hold(&mut out, e.hold);
        put_number(&mut out, e.turn);
        put_number(&mut out, e.changed_seq);
        put_text(&mut out, &e.partner);
        put_text(&mut out, &e.name);
        put_text(&mut out, &e.door);
        put_number(&mut out, e.size_bytes);
        out.extend_from_slice(&e.sha256.0);
        put_time(&mut out, e.received_at);
        put_time(&mut out, e.since);
        put_option(&mut out, e.route.as_deref(), put_text);
        put_option(&mut out, e.reason.as_deref(), put_text);
        put_number(&mut out, u64::from(e.attempts));
        put_number(&mut out, u64::from(e.crashes));
        put_option(&mut out, e.due_at, put_time);
        put_option(&mut out, e.failing_since, put_time);
        put_option(&mut out, e.lease.as_ref(), put_lease);
        put_option(&mut out, e.supersedes, put_id);
        put_option(&mut out, e.superseded.as_deref(), put_superseded);
        put_option(&mut out, e.claimable_from, put_time);
        put_option(&mut out, e.content, put_number);
        put_option(&mut out, self.replaced, |out, (id, at)| {
            put_id(out, id);
            put_time(out, at);
        });
        put_number(&mut out, self.basis);
        put_number(&mut out, self.seqs.len() as u64);
        let mut before = 0;
        for seq in &self.seqs {
            put_number(&mut out, seq - before);
            before = *seq;
        }
        out
    }

    /// Whether storage keeps the bytes of the entry that is stored so.
    pub(super) fn is_kept(bytes: &[u8]) -> bool {
        bytes.get(1).is_some_and(|flags| flags & 8 == 0)
    }

    pub(super) fn decode(id: FileId, bytes: &[u8]) -> Result<Self, Fault> {
        Input(bytes).stored(id).ok_or_else(|| Fault::Index(format!("the entry of file {id} cannot be read")))
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_time(out: &mut Vec<u8>, time: DateTime<Utc>) {
    out.extend_from_slice(&time.timestamp().to_be_bytes());
    out.extend_from_slice(&time.timestamp_subsec_nanos().to_be_bytes());
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_id(out: &mut Vec<u8>, id: FileId) {
    out.extend_from_slice(id.as_bytes());
}

/// One byte: 0 for none.
fn put_hold(out: &mut Vec<u8>, hold: Option<Hold>) {
    let number = hold.and_then(|hold| HOLDS.iter().position(|other| *other == hold));
    out.push(number.map_or(0, |number| number as u8 + 1));
}

fn put_superseded(out: &mut Vec<u8>, before: &Superseded) {
    put_id(out, before.by);
    out.push(code(before.state));
    put_option(out, before.reason.as_deref(), put_text);
    put_hold(out, before.hold);
}

fn put_lease(out: &mut Vec<u8>, lease: &Lease) {
    out.extend_from_slice(lease.token.0.as_bytes());
    put_time(out, lease.began_at);
    put_time(out, lease.until);
    put_option(out, lease.child, |out, child| {
        out.extend_from_slice(&child.pgid.to_be_bytes());
        put_number(out, child.start_ticks);
    });
}

/// Bytes that are still to be read.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    fn stored(&mut self, id: FileId) -> Option<Stored> {
        let state = state(self.byte()?)?;
        let flags = self.byte()?;
        let hold = self.hold()?;
        let mut entry = Entry {
            id,
            state,
            hold,
            not_duplicate: flags & 1 != 0,
            begun: flags & 2 != 0,
            receipt_hidden: flags & 4 != 0,
            supersedes: None,
            superseded: None,
            claimable_from: None,
            content: None,
            turn: self.number()?,
            changed_seq: self.number()?,
            partner: self.text()?,
            name: self.text()?,
            door: self.text()?,
            size_bytes: self.number()?,
            sha256: Sha256(self.bytes()?),
            received_at: self.time()?,
            since: self.time()?,
            route: self.option(Self::text)?,
            reason: self.option(Self::text)?,
            attempts: self.number()?.try_into().ok()?,
            crashes: self.number()?.try_into().ok()?,
            due_at: self.option(Self::time)?,
            failing_since: self.option(Self::time)?,
            lease: self.option(Self::lease)?,
        };
        entry.supersedes = self.option(Self::file)?;
        entry.superseded = self.option(Self::superseded)?.map(Box::new);
        entry.claimable_from = self.option(Self::time)?;
        entry.content = self.option(Self::number)?;
        let replaced = self.option(|input| Some((input.file()?, input.time()?)))?;
        let basis = self.number()?;
        let count = self.number()?;
        let mut seqs = Vec::new();
        let mut before = 0u64;
        for _ in 0..count {
            before = before.checked_add(self.number()?)?;
            seqs.push(before);
        }
        self.0.is_empty().then_some(Stored { entry, basis, seqs, replaced })
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn file(&mut self) -> Option<FileId> {
        self.bytes().map(FileId::from_bytes)
    }

    fn hold(&mut self) -> Option<Option<Hold>> {
        match self.byte()? {
            0 => Some(None),
            number => HOLDS.get(usize::from(number) - 1).map(|hold| Some(*hold)),
        }
    }

    fn superseded(&mut self) -> Option<Superseded> {
        Some(Superseded {
            by: self.file()?,
            state: state(self.byte()?)?,
            reason: self.option(Self::text)?,
            hold: self.hold()?,
        })
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(bytes.to_vec()).ok()
    }

    pub(super) fn time(&mut self) -> Option<DateTime<Utc>> {
        let seconds = i64::from_be_bytes(self.bytes()?);
        DateTime::from_timestamp(seconds, u32::from_be_bytes(self.bytes()?))
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    fn lease(&mut self) -> Option<Lease> {
        Some(Lease {
            token: LeaseToken(Uuid::from_bytes(self.bytes()?)),
            began_at: self.time()?,
            until: self.time()?,
            child: self.option(|input| {
                Some(Child { pgid: i32::from_be_bytes(input.bytes()?), start_ticks: input.number()? })
            })?,
        })
    }
}

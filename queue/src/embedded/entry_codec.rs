//! How an entry stands in the index: compact, and never read by another version (the index is made anew instead).

use chrono::{DateTime, Utc};
use forebay_storage::{FileId, Sha256};
use uuid::Uuid;

use super::index::Fault;
use crate::{Child, Entry, Lease, LeaseToken, State};

/// An entry and where the journal speaks of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) entry: Entry,
    /// The record from which on the entry can be replayed: its acceptance, or the latest time it was carried.
    pub(super) basis: u64,
    /// Every record about it, ascending.
    pub(super) seqs: Vec<u64>,
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
    }
}

pub(super) fn state(code: u8) -> Option<State> {
    State::ALL.into_iter().find(|state| self::code(*state) == code)
}

impl Stored {
    pub(super) fn encode(&self) -> Vec<u8> {
        let e = &self.entry;
        let mut out = Vec::with_capacity(160 + e.name.len());
        out.push(code(e.state));
        out.push(u8::from(e.not_duplicate));
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
        put_number(&mut out, self.basis);
        put_number(&mut out, self.seqs.len() as u64);
        let mut before = 0;
        for seq in &self.seqs {
            put_number(&mut out, seq - before);
            before = *seq;
        }
        out
    }

    pub(super) fn decode(id: FileId, bytes: &[u8]) -> Result<Self, Fault> {
        Input(bytes).stored(id).ok_or_else(|| Fault::Index(format!("the entry of file {id} cannot be read")))
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_time(out: &mut Vec<u8>, time: DateTime<Utc>) {
    out.extend_from_slice(&time.timestamp().to_be_bytes());
    out.extend_from_slice(&time.timestamp_subsec_nanos().to_be_bytes());
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
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

/// What is still to be read.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    fn stored(&mut self, id: FileId) -> Option<Stored> {
        let state = state(self.byte()?)?;
        let not_duplicate = self.byte()? != 0;
        let entry = Entry {
            id,
            state,
            not_duplicate,
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
        let basis = self.number()?;
        let count = self.number()?;
        let mut seqs = Vec::new();
        let mut before = 0u64;
        for _ in 0..count {
            before = before.checked_add(self.number()?)?;
            seqs.push(before);
        }
        self.0.is_empty().then_some(Stored { entry, basis, seqs })
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
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

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(bytes.to_vec()).ok()
    }

    fn time(&mut self) -> Option<DateTime<Utc>> {
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

//! The keys of the index. One tree, so that one batch is atomic; the first byte tells what a key is of.
//!
//! | key | value |
//! |---|---|
//! | `m` | [`Meta`](super::meta::Meta): the applied sequence and what else describes the whole |
//! | `b` | nothing: it is being rebuilt from the journal and is not whole yet |
//! | `e` turn | the entry. Its turn is its own alone, so listings need no more than that |
//! | `i` id | its turn |
//! | `s` state, turn | nothing: listings, in order of acceptance |
//! | `l` lane, turn | nothing: `ready` entries, in order of their turn |
//! | `n` lane | how many are ready, and the lane |
//! | `k` partner | files and bytes by state |
//! | `x` end, turn | nothing: entries that may be purged one day, by when they ended |
//! | `d` digest of all | turn: the latest done file of this partner, path, size and digest |
//! | `o` id | what the file was copied from, for as long as that may still be there |
//! | `p` id | nothing: was purged |
//! | `u` partner, 0, digest of an idempotency key | the file that was accepted under it |
//! | `t` time, partner, 0, digest | nothing: those keys, by when their files were accepted |
//! | `g` first, next | nothing: this damage of the journal has been dealt with |
//! | `c` id, id | nothing: the second continues the first, whose bytes it needs |
//! | `a` partner, 0, id | nothing: the partner's entries |
//! | `r` partner | its login directory's folder, and how many names there are below |
//! | `h` folder | the folder above, its name, and the record that made it |
//! | `f` folder, name | the folder or file that the name leads to |
//!
//! Which entries changed since a record is read from the journal.

use chrono::{DateTime, Utc};
use forebay_storage::FileId;
use sha2::{Digest, Sha256};

use super::{binary::code, index::Slice};
use crate::{Entry, IdempotencyKey, State};

pub(super) const META: &[u8] = b"m";
pub(super) const UNFINISHED: &[u8] = b"b";

fn key<const N: usize>(prefix: u8, parts: [&[u8]; N]) -> Slice {
    // No key of this kind is longer: one of fixed parts never has more than a prefix and two
    // numbers or ids of them.
    let mut bytes = [0u8; 32];
    bytes[0] = prefix;
    let mut length = 1;
    for part in parts {
        bytes[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    Slice::from(&bytes[..length])
}

/// The first key that is behind all keys of this kind.
pub(super) fn behind(prefix: u8) -> [u8; 1] {
    [prefix + 1]
}

pub(super) fn entry(turn: u64) -> Slice {
    key(b'e', [&turn.to_be_bytes()])
}

pub(super) fn turn_of(id: FileId) -> Slice {
    key(b'i', [id.as_bytes()])
}

/// A turn as a value.
pub(super) fn turn_value(turn: u64) -> Slice {
    let bytes = turn.to_be_bytes();
    // Without the zeros in front, but never empty.
    let zeros = (turn.leading_zeros() / 8).min(7) as usize;
    Slice::from(&bytes[zeros..])
}

/// The turn that a value is.
pub(super) fn turn(value: &[u8]) -> Option<u64> {
    (1..=8).contains(&value.len()).then(|| value.iter().fold(0, |turn, byte| turn << 8 | u64::from(*byte)))
}

pub(super) fn by_state(state: State, turn: u64) -> Slice {
    key(b's', [&[code(state)], &turn.to_be_bytes()])
}

pub(super) fn ready(lane: u32, turn: u64) -> Slice {
    key(b'l', [&lane.to_be_bytes(), &turn.to_be_bytes()])
}

pub(super) fn lane(lane: u32) -> Slice {
    key(b'n', [&lane.to_be_bytes()])
}

pub(super) fn partner(partner: &str) -> Slice {
    let mut bytes = Vec::with_capacity(1 + partner.len());
    bytes.push(b'k');
    bytes.extend_from_slice(partner.as_bytes());
    Slice::from(bytes)
}

/// Seconds are enough here: who asks compares the entry's own time again.
pub(super) fn ended(at: DateTime<Utc>, turn: u64) -> Slice {
    key(b'x', [&sortable(at.timestamp()), &turn.to_be_bytes()])
}

fn sortable(number: i64) -> [u8; 8] {
    // The sign bit turned round, so that bytes sort as numbers do, negative ones first.
    (number as u64 ^ (1 << 63)).to_be_bytes()
}

/// Twelve bytes of a digest of all. Who asks compares the entries themselves; partners choose names and bytes, and must not
/// be able to make two files meet here.
pub(super) fn done(entry: &Entry) -> Slice {
    let mut digest = Sha256::new();
    digest.update(entry.sha256.0);
    digest.update(entry.size_bytes.to_be_bytes());
    digest.update(&entry.partner);
    // So that a partner's name and a file's name cannot lend each other letters.
    digest.update([0]);
    digest.update(&entry.name);
    key(b'd', [&digest.finalize()[..12]])
}

pub(super) fn origin(id: FileId) -> Slice {
    key(b'o', [id.as_bytes()])
}

/// Twenty bytes of a digest: a partner could make two of its own keys meet by 2⁸⁰ tries, and none of another's.
pub(super) fn idempotency(partner: &str, key: &IdempotencyKey) -> Slice {
    let (mut bytes, _) = idempotency_of(partner);
    bytes.extend_from_slice(&Sha256::digest(key.as_str())[..20]);
    Slice::from(bytes)
}

/// The keys of a partner: from the first of them to behind the last.
pub(super) fn idempotency_of(partner: &str) -> (Vec<u8>, Vec<u8>) {
    let from = [b"u", partner.as_bytes(), &[0]].concat();
    let to = [b"u", partner.as_bytes(), &[1]].concat();
    (from, to)
}

/// Where a key stands by the time from which it is kept. Seconds are enough.
pub(super) fn keyed_since(accepted_at: DateTime<Utc>, at: &[u8]) -> Slice {
    Slice::from([&b"t"[..], &sortable(accepted_at.timestamp()), &at[1..]].concat())
}

/// The first place behind those that are older.
pub(super) fn keyed_before(before: DateTime<Utc>) -> Vec<u8> {
    [&b"t"[..], &sortable(before.timestamp())].concat()
}

/// The key that stands at such a place.
pub(super) fn keyed_at(since: &[u8]) -> Option<Slice> {
    Some(Slice::from([b"u", since.get(9..)?].concat()))
}

pub(super) fn purged(id: FileId) -> Slice {
    key(b'p', [id.as_bytes()])
}

pub(super) fn damage(first: u64, next: u64) -> Slice {
    key(b'g', [&first.to_be_bytes(), &next.to_be_bytes()])
}

pub(super) fn of_partner(partner: &str, id: FileId) -> Slice {
    let mut bytes = partner_prefix(partner);
    bytes.extend_from_slice(id.as_bytes());
    Slice::from(bytes)
}

/// That `later` continues `earlier`.
pub(super) fn continued(earlier: FileId, later: FileId) -> Slice {
    Slice::from([&b"c"[..], earlier.as_bytes(), later.as_bytes()].concat())
}

/// The keys of all that continue a file: from the first of them to behind the last.
pub(super) fn continuing(earlier: FileId) -> (Vec<u8>, Vec<u8>) {
    let from = [&b"c"[..], earlier.as_bytes()].concat();
    // One byte more than an id has: behind even the highest of them.
    let to = [&from[..], &[0xff; 17]].concat();
    (from, to)
}

/// The key before all entries of a partner.
pub(super) fn partner_prefix(partner: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18 + partner.len());
    bytes.push(b'a');
    bytes.extend_from_slice(partner.as_bytes());
    // No name has a NUL, so the entries of "a" end before those of "ab".
    bytes.push(0);
    bytes
}

pub(super) fn root(partner: &str) -> Slice {
    let mut bytes = Vec::with_capacity(1 + partner.len());
    bytes.push(b'r');
    bytes.extend_from_slice(partner.as_bytes());
    Slice::from(bytes)
}

pub(super) fn folder(number: u64) -> Slice {
    key(b'h', [&number.to_be_bytes()])
}

pub(super) fn name(folder: u64, name: &str) -> Slice {
    let mut bytes = Vec::with_capacity(9 + name.len());
    bytes.push(b'f');
    bytes.extend_from_slice(&folder.to_be_bytes());
    bytes.extend_from_slice(name.as_bytes());
    Slice::from(bytes)
}

/// The last eight bytes of a key, as the turn that they are.
pub(super) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The id that a key behind its first byte is.
pub(super) fn id(bytes: &[u8]) -> Option<FileId> {
    <[u8; 16]>::try_from(bytes).ok().map(FileId::from_bytes)
}

//! How values stand in records of the journal and in the index: compact, and each in one way only.
//!
//! | value | bytes |
//! |---|---|
//! | number | 7 bits a byte, the lowest first, the highest bit set on all but the last |
//! | signed number | the number `2n`, or `-2n - 1` when it is negative |
//! | time | nanoseconds after the base time, as a signed number, plus 1; or 0, then seconds after 1970 as a signed number and nanoseconds in 4 bytes, big-endian |
//! | text | its length as a number, and UTF-8 |
//! | list | how many there are as a number, and each |
//! | id, digest, token, state of a digest | their 16, 32 or 104 bytes |
//! | yes or no | 1 or 0 |
//!
//! Decoding is strict: bytes that encoding would not have made are refused, and so is what is left over. It never takes
//! more memory than a small multiple of the bytes, for a list or text that says it is longer than they are is refused
//! first.
//!
//! A new value of an enum gets a new number and a new field a new one at the end. No number is used
//! again: the journal has records of every version.

use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::{DigestState, FileId, Origin, Sha256};
use uuid::Uuid;

use crate::{Begun, Child, Continues, Hold, Inline, LeaseToken, MovedFile, NodeId, Shown, State, Superseded};

/// The time that others are told from when no nearer one is known: 2025-01-01.
pub(super) const BASE: DateTime<Utc> = match DateTime::from_timestamp(1_735_689_600, 0) {
    Some(base) => base,
    None => DateTime::UNIX_EPOCH,
};

/// Bytes that are being written.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    /// The time from which others are told.
    pub(super) base: DateTime<Utc>,
}

impl Output {
    pub(super) fn new(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), base: BASE }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(super) fn number(&mut self, mut number: u64) {
        // LEB128: most numbers here are lengths and small counts, and take one byte.
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.number(zigzag(number));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(super) fn time(&mut self, time: DateTime<Utc>) {
        match near(self.base, time) {
            Some(number) => self.number(number),
            None => {
                self.byte(0);
                self.signed(time.timestamp());
                // A time that is too far away for the short form (centuries), or a leap second.
                self.bytes.extend_from_slice(&time.timestamp_subsec_nanos().to_be_bytes());
            }
        }
    }

    /// What `write` writes, with its length before it.
    pub(super) fn measured(&mut self, write: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        write(self);
        // The length comes before what it measures, and is known only afterwards: small pieces are
        // moved once.
        let inner = self.bytes.split_off(start);
        self.number(inner.len() as u64);
        self.bytes.extend_from_slice(&inner);
    }
}

fn zigzag(number: i64) -> u64 {
    // Small numbers of either sign get a short form: 0, -1, 1, -2 become 0, 1, 2, 3.
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// The short form of a time, which is not 0; none when it has none. A leap second has none.
fn near(base: DateTime<Utc>, time: DateTime<Utc>) -> Option<u64> {
    let is_leap = |time: DateTime<Utc>| time.timestamp_subsec_nanos() >= 1_000_000_000;
    if is_leap(base) || is_leap(time) {
        return None;
    }
    // 0 is left free, as the sign of the long form.
    zigzag((time - base).num_nanoseconds()?).checked_add(1)
}

/// Bytes that are still to be read. Every method gives none when they are not what they should be.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    /// The time from which others are told.
    pub(super) base: DateTime<Utc>,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, base: BASE }
    }

    /// What was read, if nothing is left over.
    pub(super) fn whole<T>(&self, read: T) -> Option<T> {
        self.bytes.is_empty().then_some(read)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // Bits that do not fit into 64.
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte < 0x80 {
                // Its last byte says something, or it could be shorter.
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        self.number().map(unzigzag)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        // Checked before anything is copied: a length can say anything.
        let (bytes, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.slice()?).ok().map(str::to_owned)
    }

    pub(super) fn time(&mut self) -> Option<DateTime<Utc>> {
        match self.number()? {
            0 => {
                let time = DateTime::from_timestamp(self.signed()?, u32::from_be_bytes(self.array()?))?;
                // The long form of a time that has a short one: encoding would not have made it.
                near(self.base, time).is_none().then_some(time)
            }
            number => {
                let time = self.base.checked_add_signed(TimeDelta::nanoseconds(unzigzag(number - 1)))?;
                // A time that is told from a leap second has no short form.
                (near(self.base, time) == Some(number)).then_some(time)
            }
        }
    }

    /// What [`Output::measured`] wrote: `read` has to use all of it.
    pub(super) fn measured<T>(&mut self, read: impl FnOnce(&mut Input<'a>) -> Option<T>) -> Option<T> {
        let mut inner = Input { bytes: self.slice()?, base: self.base };
        let read = read(&mut inner)?;
        inner.whole(read)
    }
}

/// A value that stands in bytes.
pub(super) trait Field: Sized {
    fn put(&self, out: &mut Output);
    fn take(input: &mut Input<'_>) -> Option<Self>;
}

/// A value that may be missing: then nothing of it stands in the bytes.
pub(super) trait Optional: Sized {
    fn absent() -> Self;
    fn is_absent(&self) -> bool;
    fn put_present(&self, out: &mut Output);
    fn take_present(input: &mut Input<'_>) -> Option<Self>;
}

impl<T: Field> Optional for Option<T> {
    fn absent() -> Self {
        None
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn put_present(&self, out: &mut Output) {
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take_present(input: &mut Input<'_>) -> Option<Self> {
        T::take(input).map(Some)
    }
}

/// A value of which the default is the same as none.
macro_rules! optional_by_default {
    ($($type:ty),*) => {$(
        impl Optional for $type {
            fn absent() -> Self {
                Self::default()
            }

            fn is_absent(&self) -> bool {
                *self == Self::default()
            }

            fn put_present(&self, out: &mut Output) {
                self.put(out);
            }

            fn take_present(input: &mut Input<'_>) -> Option<Self> {
                // A default that is written out has a second form; refused.
                Self::take(input).filter(|value| !value.is_absent())
            }
        }
    )*};
}
optional_by_default!(String, u32, bool, Vec<MovedFile>, Shown, NodeId);

/// Writes a value that may be missing behind its number, with its length.
pub(super) fn put_optional(out: &mut Output, number: u8, value: &impl Optional) {
    if !value.is_absent() {
        out.byte(number);
        out.measured(|out| value.put_present(out));
    }
}

/// Reads a value that may be missing: it is next, with its number, or not there.
pub(super) fn take_optional<T: Optional>(input: &mut Input<'_>, number: u8) -> Option<T> {
    // Numbers ascend, so a field that is not next is not there at all.
    if input.bytes.first() != Some(&number) {
        return Some(T::absent());
    }
    input.byte()?;
    input.measured(T::take_present)
}

/// Encodes a struct by a table: first the fields that are always there, in this order, without anything between them; then
/// those that may be missing, each with its number, in ascending order. A field that is added later gets a new number at
/// the end, and nothing else changes; a number that is not in the table is an error, for a newer version wrote it.
macro_rules! fields {
    ($type:ident { $($field:ident),* $(; $($number:literal $optional:ident),*)? }) => {
        impl $crate::embedded::binary::Field for $type {
            fn put(&self, out: &mut $crate::embedded::binary::Output) {
                // Taken apart by name: a field that is missing in the table does not compile.
                let Self { $($field,)* $($($optional,)*)? } = self;
                out.measured(|out| {
                    $($crate::embedded::binary::Field::put($field, out);)*
                    $($($crate::embedded::binary::put_optional(out, $number, $optional);)*)?
                });
            }

            fn take(input: &mut $crate::embedded::binary::Input<'_>) -> Option<Self> {
                input.measured(|input| {
                    $(let $field = $crate::embedded::binary::Field::take(input)?;)*
                    $($(let $optional = $crate::embedded::binary::take_optional(input, $number)?;)*)?
                    Some(Self { $($field,)* $($($optional,)*)? })
                })
            }
        }
    };
}
pub(super) use fields;

fields!(MovedFile { id, name, state; 1 route, 2 reason, 3 hold });
fields!(Superseded { by, state; 1 reason, 2 hold });
fields!(Child { pgid, start_ticks; 1 node });
fields!(Continues { of, at, own_sha256, digest });
fields!(Origin { folder, device, inode, size_bytes, modified_ns, changed_ns });

impl Field for Begun {
    fn put(&self, out: &mut Output) {
        self.id.put(out);
        self.attempt.put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        Some(Self { id: Field::take(input)?, attempt: Field::take(input)? })
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Output) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        Some((A::take(input)?, B::take(input)?))
    }
}

impl Field for u64 {
    fn put(&self, out: &mut Output) {
        out.number(*self);
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.number()
    }
}

impl Field for u32 {
    fn put(&self, out: &mut Output) {
        out.number(u64::from(*self));
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.number()?.try_into().ok()
    }
}

impl Field for i64 {
    fn put(&self, out: &mut Output) {
        out.signed(*self);
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.signed()
    }
}

impl Field for i32 {
    fn put(&self, out: &mut Output) {
        out.signed(i64::from(*self));
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.signed()?.try_into().ok()
    }
}

impl Field for bool {
    fn put(&self, out: &mut Output) {
        out.byte(u8::from(*self));
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        match input.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Field for String {
    fn put(&self, out: &mut Output) {
        out.text(self);
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.text()
    }
}

impl Field for DateTime<Utc> {
    fn put(&self, out: &mut Output) {
        out.time(*self);
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.time()
    }
}

impl Field for FileId {
    fn put(&self, out: &mut Output) {
        out.bytes.extend_from_slice(self.as_bytes());
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.array().map(Self::from_bytes)
    }
}

impl Field for Sha256 {
    fn put(&self, out: &mut Output) {
        out.bytes.extend_from_slice(&self.0);
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.array().map(Self)
    }
}

impl Field for DigestState {
    fn put(&self, out: &mut Output) {
        out.bytes.extend_from_slice(self.as_bytes());
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.array().map(Self::from_bytes)
    }
}

impl Field for LeaseToken {
    fn put(&self, out: &mut Output) {
        out.bytes.extend_from_slice(self.0.as_bytes());
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.array().map(|bytes| Self(Uuid::from_bytes(bytes)))
    }
}

impl Field for NodeId {
    fn put(&self, out: &mut Output) {
        out.text(self.as_str());
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        input.text()?.parse().ok()
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Output) {
        out.number(self.len() as u64);
        // Without a length for each: an item ends by its own form.
        self.iter().for_each(|item| item.put(out));
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        let count = usize::try_from(input.number()?).ok()?;
        // Each takes a byte at least.
        if count > input.bytes.len() {
            return None;
        }
        // Not reserved ahead: what is in memory may be longer than what is in the bytes.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::take(input)?);
        }
        Some(items)
    }
}

/// Never change a number: they are in records of the journal, which last.
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

impl Field for State {
    fn put(&self, out: &mut Output) {
        out.byte(code(*self));
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        let byte = input.byte()?;
        // By `code` alone, so that both ways cannot differ.
        Self::ALL.into_iter().find(|state| code(*state) == byte)
    }
}

/// Never change a number: they are in records of the journal, which last.
impl Field for Hold {
    fn put(&self, out: &mut Output) {
        out.byte(match self {
            Self::NoRoute => 0,
            Self::Unconfirmed => 1,
            Self::ReplyNotRead => 2,
            Self::Evidence => 3,
            Self::NotRenamed => 4,
            Self::Adopted => 5,
            Self::BytesMissing => 6,
            Self::JournalDamage => 7,
            Self::Crashes => 8,
            Self::Processor => 9,
            Self::Operator => 10,
        });
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        Some(match input.byte()? {
            0 => Self::NoRoute,
            1 => Self::Unconfirmed,
            2 => Self::ReplyNotRead,
            3 => Self::Evidence,
            4 => Self::NotRenamed,
            5 => Self::Adopted,
            6 => Self::BytesMissing,
            7 => Self::JournalDamage,
            8 => Self::Crashes,
            9 => Self::Processor,
            10 => Self::Operator,
            _ => return None,
        })
    }
}

/// 0 for this record, or the sequence of another, which is never 0.
impl Field for Inline {
    fn put(&self, out: &mut Output) {
        match self {
            Self::Here => out.number(0),
            Self::With(seq) => out.number(*seq),
        }
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        Some(match input.number()? {
            0 => Self::Here,
            seq => Self::With(seq),
        })
    }
}

/// 0: not known; 1: nowhere; 2: at a path, with the time that it shows.
impl Field for Shown {
    fn put(&self, out: &mut Output) {
        match self {
            Self::Unknown => out.byte(0),
            Self::Nowhere => out.byte(1),
            Self::At { path, shows } => {
                out.byte(2);
                out.text(path);
                out.time(*shows);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        Some(match input.byte()? {
            0 => Self::Unknown,
            1 => Self::Nowhere,
            2 => Self::At { path: input.text()?, shows: input.time()? },
            _ => return None,
        })
    }
}

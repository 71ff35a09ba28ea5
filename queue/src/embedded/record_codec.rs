//! How a record stands in the journal. The values are those of [`binary`](super::binary).
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 4; versions 1 to 3 are JSON behind it |
//! | 1 | the fact's number, in the table below |
//! | 1 | who: 0 the server, 1 the partner that the fact names, 2 another partner, 3 an operator; and 128 when it is about a file |
//! | time | when; the times behind it are told from here |
//! | text | the name of another partner or of an operator |
//! | id | the file that it is about |
//! | | the fact's fields that are always there, in the order of the table |
//! | | those that may be missing: number, length, value, in ascending order |
//!
//! So a field can be added to any fact without a new version of all, and a program that does not know the field says so
//! instead of overlooking it. That, refusing whatever is left over, and one form for each record are why this is written
//! here: codecs by position (postcard, bincode) cannot grow without changing what contains them, and protobuf's passes over
//! what it does not know.

use super::binary::{Field, Input, Output, fields, put_optional, take_optional};
use crate::{Actor, Entry, Fact, Lease, QueueError, Record, Result};

/// The version that this program writes.
const VERSION: u8 = 4;
/// The newest that is JSON.
const LAST_JSON: u8 = 3;
/// The oldest that it reads.
const OLDEST: u8 = 1;

/// Encodes and decodes facts by a table: number, name, the fields that are always there; and behind `;` those that may be
/// missing, each with its number. Numbers are never used again for something else.
macro_rules! facts {
    ($($number:literal $name:ident { $($field:ident),* $(; $($tag:literal $optional:ident),*)? })*) => {
        fn number_of(fact: &Fact) -> u8 {
            match fact {
                $(Fact::$name { .. } => $number,)*
            }
        }

        fn put_fact(fact: &Fact, out: &mut Output) {
            match fact {
                $(Fact::$name { $($field,)* $($($optional,)*)? } => {
                    $(Field::put($field, out);)*
                    $($(put_optional(out, $tag, $optional);)*)?
                })*
            }
        }

        fn take_fact(number: u8, input: &mut Input<'_>) -> Option<Fact> {
            match number {
                $($number => {
                    $(let $field = Field::take(input)?;)*
                    $($(let $optional = take_optional(input, $tag)?;)*)?
                    Some(Fact::$name { $($field,)* $($($optional,)*)? })
                })*
                _ => None,
            }
        }
    };
}

facts! {
    1 Accepted {
        partner, name, door, size_bytes, sha256, received_at, state;
        1 route, 2 reason, 3 hold, 4 origin, 5 supersedes, 6 claimable_from, 7 inline,
        8 continues, 9 idempotency_key
    }
    2 Withdrawn { ; 1 reason }
    3 OriginsGone { files }
    4 Named { name, state; 1 route, 2 reason, 3 hold }
    5 Started { token, attempt, until; 1 node }
    6 Child { token, child }
    7 Ended { state, counted; 1 due_at, 2 reason, 3 output, 4 messages }
    8 Crashed { state; 1 messages }
    9 Duplicate { of }
    10 Held { ; 1 reason, 2 hold }
    11 Released { ; 1 route, 2 reason }
    12 Requeued { ; 1 route, 2 reason }
    13 Cancelled { ; 1 reason }
    14 Purged {}
    15 Carried { entry; 1 shown }
    16 ReceiptHidden {}
    17 FolderMade { partner, path }
    18 FolderCarried { partner, path, made_at }
    19 FolderRemoved { partner, path }
    20 Hidden { partner, path }
    21 Moved { partner, from, to; 1 files }
    22 TimeSet { partner, path, shows }
    23 ShownAt { partner, path, shows }
    24 NamesForgotten { partner }
    25 Damaged { first, next }
    26 Noted { topic, text }
    27 Claimed { token, until, files; 1 node }
}

fields!(Entry {
    id, turn, partner, name, door, size_bytes, sha256, received_at, state, since, changed_seq;
    1 route, 2 reason, 3 attempts, 4 due_at, 5 failing_since, 6 lease, 7 crashes, 8 not_duplicate, 9 hold, 10 begun,
    11 supersedes, 12 superseded, 13 claimable_from, 14 content, 15 receipt_hidden, 16 continues, 17 messages
});
fields!(Lease { token, began_at, until; 1 child, 2 node });

impl<T: Field> Field for Box<T> {
    fn put(&self, out: &mut Output) {
        (**self).put(out);
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        T::take(input).map(Self::new)
    }
}

const IS_ABOUT_A_FILE: u8 = 128;

/// The bytes of a record.
pub(super) fn encode(record: &Record) -> Vec<u8> {
    let mut out = Output::new(192);
    out.byte(VERSION);
    out.byte(number_of(&record.fact));
    let (who, name) = match &record.actor {
        Actor::Server => (0, None),
        // Nearly every record of a partner names it already: it is not written twice.
        Actor::Partner(name) if record.fact.partner() == Some(name) => (1, None),
        Actor::Partner(name) => (2, Some(name)),
        Actor::Operator(name) => (3, Some(name)),
    };
    out.byte(who | if record.id.is_some() { IS_ABOUT_A_FILE } else { 0 });
    out.time(record.at);
    // From here on: the times of a fact are near its own.
    out.base = record.at;
    if let Some(name) = name {
        out.text(name);
    }
    if let Some(id) = record.id {
        id.put(&mut out);
    }
    put_fact(&record.fact, &mut out);
    out.bytes
}

/// The record that these bytes are.
pub(super) fn decode(seq: u64, bytes: &[u8]) -> Result<Record> {
    match bytes.split_first() {
        Some((&VERSION, binary)) => decode_binary(binary)
            .ok_or_else(|| QueueError::Unreadable(format!("journal record {seq} cannot be read, or is a newer one's"))),
        // Records of earlier versions stay in the journal for as long as it keeps history.
        Some((&(OLDEST..=LAST_JSON), json)) => serde_json::from_slice(json)
            .map_err(|error| QueueError::Unreadable(format!("journal record {seq} cannot be read: {error}"))),
        Some((&version, _)) if version > VERSION => Err(QueueError::Unreadable(format!(
            "journal record {seq} has format {version}, and this version reads {VERSION}: it was written by a newer \
             Forebay, so start that one"
        ))),
        _ => Err(QueueError::Unreadable(format!("journal record {seq} has no known format"))),
    }
}

fn decode_binary(bytes: &[u8]) -> Option<Record> {
    let mut input = Input::new(bytes);
    // An unknown number is found by `take_fact`, once its place in the bytes is known.
    let (number, who) = (input.byte()?, input.byte()?);
    let at = input.time()?;
    input.base = at;
    let named = match who & !IS_ABOUT_A_FILE {
        0 | 1 => None,
        2 => Some(Actor::Partner(input.text()?)),
        3 => Some(Actor::Operator(input.text()?)),
        _ => return None,
    };
    let id = if who & IS_ABOUT_A_FILE == 0 { None } else { Some(Field::take(&mut input)?) };
    let fact = take_fact(number, &mut input)?;
    let actor = match (named, fact.partner()) {
        // It would have been 1.
        (Some(Actor::Partner(name)), Some(partner)) if name == *partner => return None,
        (Some(named), _) => named,
        (None, _) if who & !IS_ABOUT_A_FILE == 0 => Actor::Server,
        (None, partner) => Actor::Partner(partner?.to_owned()),
    };
    input.whole(Record { at, actor, id, fact })
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::*;

    /// Records of every fact, as JSON: what version 3 wrote, and what is new since.
    const RECORDS: [&str; 2] =
        [include_str!("../../tests/fixtures/records-v3.jsonl"), include_str!("../../tests/fixtures/records-v1.jsonl")];
    const NEW: &str = include_str!("../../tests/fixtures/records-v4.jsonl");

    fn records() -> Vec<Record> {
        let lines = RECORDS.into_iter().chain([NEW]).flat_map(str::lines);
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let mut numbers = std::collections::BTreeSet::new();
        for record in records() {
            let bytes = encode(&record);
            assert_eq!(decode(1, &bytes).unwrap(), record);
            numbers.insert(bytes[1]);
        }
        assert!(numbers.into_iter().eq(1..=27), "the fixtures have every fact");
    }

    /// What is decoded is what its bytes say and nothing else: encoded again it gives the same bytes.
    fn assert_strict(bytes: &[u8], whence: &str) -> bool {
        match decode(1, bytes) {
            Ok(record) if bytes[0] == VERSION => {
                assert_eq!(encode(&record), bytes, "{whence}: {record:?}");
                true
            }
            _ => false,
        }
    }

    #[test]
    fn a_record_that_is_cut_or_longer_is_refused() {
        for record in records() {
            let mut bytes = encode(&record);
            for end in 0..bytes.len() {
                // Where only fields that may be missing are cut off, it is another sound record.
                assert_strict(&bytes[..end], "cut");
            }
            for more in 0..=u8::MAX {
                bytes.push(more);
                assert!(decode(1, &bytes).is_err(), "{more} behind {record:?}");
                bytes.pop();
            }
        }
    }

    #[test]
    fn a_flipped_bit_gives_an_error_or_another_record() {
        for record in records() {
            let bytes = encode(&record);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if assert_strict(&flipped, "flipped") {
                    assert_ne!(decode(1, &flipped).unwrap(), record, "bit {bit} says nothing");
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_decoded_strictly_or_not_at_all() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let good: Vec<_> = records().iter().map(encode).collect();
        let mut taken = 0;
        for _ in 0..200_000 {
            let mut bytes = match rng.random_range(0..3) {
                0 => vec![0; rng.random_range(0..64)],
                _ => good.choose(&mut rng).unwrap().clone(),
            };
            if bytes.iter().all(|byte| *byte == 0) {
                rng.fill(&mut bytes[..]);
            }
            for _ in 0..rng.random_range(0..4) {
                if bytes.is_empty() {
                    break;
                }
                let at = rng.random_range(0..bytes.len());
                match rng.random_range(0..3) {
                    0 => bytes[at] = rng.random(),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, [0, 0x7f, 0x80, 0xff][rng.random_range(0..4)]),
                }
            }
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
                taken += usize::from(assert_strict(&bytes, "random"));
            }
        }
        assert!(taken > 10_000, "some are sound, and the test sees them: {taken}");
    }

    #[test]
    fn a_field_that_is_not_known_is_no_part_of_the_record() {
        let plain: Record = serde_json::from_str(NEW.lines().next().unwrap()).unwrap();
        let mut bytes = encode(&plain);
        bytes.extend_from_slice(&[99, 1, 7]);
        assert!(matches!(decode(5, &bytes), Err(QueueError::Unreadable(said)) if said.contains("record 5")));
    }

    #[test]
    fn a_list_that_says_it_is_long_takes_no_memory() {
        let mut out = Output::new(32);
        for byte in [VERSION, 3, 0, 1] {
            out.byte(byte);
        }
        out.number(u64::MAX >> 1);
        assert!(decode(1, &out.bytes).is_err());
    }
}

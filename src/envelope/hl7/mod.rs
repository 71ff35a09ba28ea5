//! HL7 version 2: messages one by one, and the batch and file envelopes around them.
//!
//! [`split`] finds the units of a file; [`inspect`] judges the file as a whole. Both read it once, from the front, in
//! memory that does not grow with it.
//!
//! # What a unit is
//! - A *header* is `MSH`, `FHS` or `BHS` at the start of a line, then `|`, or another ASCII sign that is followed by 1 to 8
//!   signs and itself again or the line's end (HL7 v2.5.1, 2.5.4: delimiters are the sender's choice). A line starts at
//!   the start of the file, after CR, after LF, and after the end of an MLLP frame. Blanks, a byte order mark, VT, form
//!   feed and NUL may stand before a header or trailer.
//! - A *trailer* is `BTS` or `FTS` at the start of a line, then `|`, a separator of an open envelope, or the line's end.
//! - A *message* goes from its `MSH` to the next header or trailer, to the FS of its MLLP frame, or to the end of the file.
//!   Blank lines end nothing. FS counts in a frame alone, which VT before a header begins. Blank lines and NUL behind the
//!   last segment are no part of it.
//! - What lies between units is *blank* (blanks, empty lines, NUL, a byte order mark, the signs of a frame, a final 0x1A) or
//!   *outside*: bytes that belong to nothing, which is how a message looks whose `MSH` was lost.
//!
//! # Guarantees
//! The ranges of all units, in order, are the file: nothing is skipped, nothing is given twice. Where a unit begins and ends
//! does not depend on how the file comes in pieces.

mod finder;
mod header;
mod inspect;
mod segments;
mod split;
mod tail;
#[cfg(test)]
mod tests;

pub use self::{
    header::Header,
    inspect::{Fault, Inspector, Limits, Report, inspect},
    segments::Lines,
    split::{Count, Kind, SplitError, Unit, split},
};

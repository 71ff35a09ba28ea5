//! Readers of the formats in which messages travel: pure bytes in, ranges of bytes out.
//!
//! A reader copies nothing, converts nothing and knows nothing of Forebay: it says where messages and envelopes lie in a
//! file. It reads in one pass and in bounded memory, whatever the file is.

pub mod hl7;

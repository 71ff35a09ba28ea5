//! The end of a stream, in bounded memory.

use std::collections::VecDeque;

/// The most of a processor's output that is kept.
pub(super) const KEPT_BYTES: usize = 4096;

/// The last [`KEPT_BYTES`] of what it is given.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: VecDeque<u8>,
    dropped_bytes: u64,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(KEPT_BYTES)..];
        let over = (self.kept.len() + last.len()).saturating_sub(KEPT_BYTES);
        self.kept.drain(..over);
        self.kept.extend(last);
        self.dropped_bytes += (over + bytes.len() - last.len()) as u64;
    }

    /// As text, beginning at a whole line when something was dropped, at most [`KEPT_BYTES`] long.
    pub(super) fn into_text(mut self) -> String {
        let bytes = self.kept.make_contiguous();
        let from = match (self.dropped_bytes, bytes.iter().position(|byte| *byte == b'\n')) {
            (1.., Some(newline)) if newline + 1 < bytes.len() => newline + 1,
            _ => 0,
        };
        let mut text = String::from_utf8_lossy(&bytes[from..]).into_owned();
        // A replacement character is longer than the byte it stands for.
        let over = text.len().saturating_sub(KEPT_BYTES);
        let cut = (over..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.drain(..cut);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: &[&[u8]]) -> String {
        let mut tail = Tail::default();
        pieces.iter().for_each(|piece| tail.push(piece));
        tail.into_text()
    }

    #[test]
    fn short_output_is_kept_whole() {
        assert_eq!(text(&[b"one\n", b"two\n"]), "one\ntwo\n");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn long_output_keeps_its_end() {
        let long = [b'x'; 10_000];
        let kept = text(&[&long, b"\nthe end\n"]);
        assert_eq!(kept, "the end\n");
        assert_eq!(text(&[&long]).len(), KEPT_BYTES);
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_bound() {
        assert!(text(&[&[0xff; 9_000]]).len() <= KEPT_BYTES);
    }
}

//! Candidates: places where one of the five ids stands, wherever that is.

use aho_corasick::{AhoCorasick, packed};

/// The ids of headers and trailers.
const IDS: [&str; 5] = ["MSH", "FHS", "BHS", "BTS", "FTS"];
/// The length of each, in bytes.
pub(super) const ID_BYTES: usize = 3;

/// Finds ids at the speed of memory: on processors with vectors many bytes are looked at together.
#[derive(Debug)]
pub(super) enum Finder {
    Packed(packed::Searcher),
    /// On processors without.
    Plain(Box<AhoCorasick>),
}

impl Finder {
    pub(super) fn new() -> Self {
        // Packed search needs SSSE3 or NEON; it is chosen as the program runs and not as it is
        // built.
        match packed::Config::new().builder().extend(IDS).build() {
            Some(searcher) => Self::Packed(searcher),
            None => Self::Plain(Box::new(plain())),
        }
    }

    /// The place of the first id in `bytes` at or behind `from`.
    pub(super) fn find(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let rest = bytes.get(from..)?;
        let found = match self {
            Self::Packed(searcher) => searcher.find(rest),
            Self::Plain(searcher) => searcher.find(rest),
        };
        found.map(|found| from + found.start())
    }
}

#[allow(clippy::expect_used, reason = "five patterns of three bytes always make an automaton")]
fn plain() -> AhoCorasick {
    AhoCorasick::new(IDS).expect("five ids")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_the_same() {
        let (packed, plain) = (Finder::new(), Finder::Plain(Box::new(plain())));
        let text = b"MSMSHFHSx BTSFTS\rBHS MS".repeat(3);
        for from in 0..text.len() + 2 {
            assert_eq!(packed.find(&text, from), plain.find(&text, from), "{from}");
        }
        assert_eq!(packed.find(&text, 0), Some(2));
    }
}

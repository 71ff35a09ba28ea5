//! Accepted files that were renamed to their name less a part of it: their partner uploads under a temporary name that
//! its policy does not know, and so they may be processed too early, and under that name.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::Partners;
use crate::units::text::folded;

/// Partners and patterns that are remembered.
const MOST: usize = 256;
/// A longer pattern says nothing of the next file.
const PATTERN_BYTES: usize = 32;

/// Renames of one kind by one partner, since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateRenames {
    /// The partner.
    pub partner: String,
    /// The glob that its temporary names have in common.
    pub pattern: String,
    /// How many accepted files were renamed so.
    pub files: u64,
    /// The last one's name before.
    pub from: String,
    /// The last one's name since.
    pub to: String,
    /// When that was.
    pub at: DateTime<Utc>,
}

/// The renames that were seen.
#[derive(Debug, Default)]
pub(super) struct Renames(Mutex<BTreeMap<(String, String), LateRenames>>);

impl Partners {
    /// A file that was accepted under the name `from` is called `to` from now on.
    pub fn renamed(&self, partner: &str, from: &str, to: &str) {
        let Some(pattern) = pattern(from, to) else { return };
        let mut seen = self.renames.0.lock();
        let key = (partner.to_ascii_lowercase(), folded(&pattern));
        if seen.len() >= MOST && !seen.contains_key(&key) {
            return;
        }
        let files = seen.get(&key).map_or(0, |before| before.files) + 1;
        let (partner, from, to) = (partner.to_owned(), from.to_owned(), to.to_owned());
        seen.insert(key, LateRenames { partner, pattern, files, from, to, at: self.clock.now() });
    }

    /// Renames of accepted files that look like the end of an upload, but for those that the policies know by now.
    #[must_use]
    pub fn late_renames(&self) -> Vec<LateRenames> {
        let unknown = |seen: &&LateRenames| !self.policy(&seen.partner).is_temporary(&seen.from);
        self.renames.0.lock().values().filter(unknown).cloned().collect()
    }
}

impl LateRenames {
    /// The line for the partner's `[[partner]]` that makes such names temporary, beside those of `patterns`.
    #[must_use]
    pub fn line(&self, patterns: &[String]) -> String {
        let all: Vec<_> = patterns.iter().chain([&self.pattern]).map(|pattern| format!("{pattern:?}")).collect();
        format!("temporary_names = [{}]", all.join(", "))
    }
}

/// The glob of a temporary name that was renamed to its final name: by a suffix less, a prefix less, or another ending.
fn pattern(from: &str, to: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let (from, to) = (last(from), last(to));
    if from == to || to.is_empty() {
        return None;
    }
    // Before the last dot of a suffix there may be a part that is another one for each file.
    let ending = |suffix: &str| format!("*{}", literal(&suffix[suffix.rfind('.').unwrap_or(0)..]));
    let pattern = match (from.strip_prefix(&to), from.strip_suffix(&to)) {
        (Some(suffix), _) => ending(suffix),
        (None, Some(prefix)) => format!("{}*", literal(prefix)),
        (None, None) => {
            let (stem, other) = (from.rsplit_once('.')?, to.rsplit_once('.')?);
            (stem.0 == other.0 && !stem.0.is_empty()).then(|| ending(&format!(".{}", stem.1)))?
        }
    };
    (pattern.len() <= PATTERN_BYTES).then_some(pattern)
}

/// The text as a glob has it that stands for it alone.
fn literal(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for c in text.chars() {
        if "*?[]{}\\,".contains(c) {
            glob.push('\\');
        }
        glob.push(c);
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_what_the_next_file_has_too() {
        for (from, to, glob) in [
            ("lab.hl7.xfer", "lab.hl7", Some("*.xfer")),
            ("in/lab.hl7.1a2b3c4d.sending", "in/lab.hl7", Some("*.sending")),
            ("lab.hl7-part", "lab.hl7", Some("*-part")),
            ("tmp_lab.hl7", "done/lab.hl7", Some("tmp_*")),
            ("_lab.hl7", "lab.hl7", Some("_*")),
            ("lab.wip", "lab.hl7", Some("*.wip")),
            ("lab.hl7.[x]", "lab.hl7", Some("*.\\[x\\]")),
            ("lab.hl7", "lab.hl7", None),
            ("in/lab.hl7", "done/lab.hl7", None),
            ("a.hl7", "b.hl7", None),
            ("lab.hl7", "lab.hl7.done", None),
            ("lab", "lab2", None),
        ] {
            assert_eq!(pattern(from, to).as_deref(), glob, "{from} {to}");
        }
        let long = format!("lab.hl7.{}", "x".repeat(100));
        assert_eq!(pattern(&long, "lab.hl7"), None);
    }
}

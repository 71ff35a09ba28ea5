//! The settings of a route that hands files over message by message: `[route.messages]`.

use serde::{Deserialize, Serialize};

use super::options::{Options, ProcessorKind};
use crate::units;

/// `[route.messages]`: files are handed over message by message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageOptions {
    /// The format in which the files are read.
    pub format: Format,
    /// A batch or file trailer whose count (BTS-1, FTS-1) is wrong.
    #[serde(default = "warn")]
    pub counts: Judgement,
    /// A header without its trailer, or a trailer without its header: the file may be cut.
    #[serde(default = "hold")]
    pub truncation: Judgement,
    /// Bytes that belong to no message: a message whose header was lost looks so.
    #[serde(default = "hold")]
    pub outside: Judgement,
    /// A message whose control id (MSH-10) an earlier one of the file has.
    #[serde(default = "warn")]
    pub repeated: Judgement,
    /// The longest message that is handed over, in bytes.
    #[serde(default = "default_max_message", with = "units::size")]
    pub max_message: u64,
    /// How the segments of a message end when it is handed over.
    #[serde(default)]
    pub line_ends: LineEnds,
    /// Messages of a file that are handed over and unanswered at once.
    #[serde(default = "default_in_flight")]
    pub in_flight: usize,
    /// How often a message may fail before the one behind it is tried, to tell which of the two is at fault, it or the
    /// system behind.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// What becomes of test messages (MSH-11 `T`, `D`).
    #[serde(default)]
    pub test: TestMessages,
}

/// A format of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// HL7 version 2, with or without batch and file envelopes.
    Hl7v2,
}

/// What follows from something that is wrong with a file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// It is told, and the messages are handed over.
    Warn,
    /// The file waits for an operator, who lets it go on by a release.
    Hold,
    /// The file is quarantined, and nothing of it is handed over.
    Reject,
}

/// How segments end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineEnds {
    /// As they came.
    #[default]
    Keep,
    /// With CR, as the standard has it (HL7 v2.5.1, 2.4).
    Cr,
}

/// What becomes of test messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestMessages {
    /// They are checked and answered, and not handed over.
    #[default]
    Answer,
    /// They are handed over as all others, with their mode.
    HandOver,
}

fn warn() -> Judgement {
    Judgement::Warn
}

fn hold() -> Judgement {
    Judgement::Hold
}

fn default_max_message() -> u64 {
    16 << 20
}

fn default_in_flight() -> usize {
    1
}

fn default_attempts() -> u32 {
    3
}

/// More would only make the memory that waits for answers larger.
const MOST_IN_FLIGHT: usize = 1_024;
/// Messages are in memory while they are handed over.
const LARGEST_MESSAGE: u64 = 256 << 20;

impl MessageOptions {
    /// Tells every fault of it in `route`.
    pub(super) fn validate(&self, route: &Options, say: &mut impl FnMut(&str, &str)) {
        if route.processor != ProcessorKind::Exec {
            say("messages", "belongs to processor = \"exec\": deliver takes whole files");
        }
        if !(1..=MOST_IN_FLIGHT).contains(&self.in_flight) {
            say("messages.in_flight", "must be from 1 to 1024");
        }
        if self.attempts == 0 {
            say("messages.attempts", "must be at least 1");
        }
        if !(1..=LARGEST_MESSAGE).contains(&self.max_message) {
            say("messages.max_message", "must be from 1 byte to 256 MiB");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_all_that_must_be_said() {
        let options: MessageOptions = toml::from_str("format = \"hl7v2\"").unwrap();
        assert_eq!((options.counts, options.truncation), (Judgement::Warn, Judgement::Hold));
        assert_eq!((options.in_flight, options.attempts, options.max_message), (1, 3, 16 << 20));
        assert!(toml::from_str::<MessageOptions>("").unwrap_err().to_string().contains("format"));
        assert!(toml::from_str::<MessageOptions>("format = \"csv\"").is_err());
    }

    #[test]
    fn faults_carry_their_keys() {
        let text = "format = \"hl7v2\"\nin_flight = 0\nattempts = 0\nmax_message = 0";
        let route = Options { messages: Some(toml::from_str(text).unwrap()), ..Options::default() };
        let mut faults = Vec::new();
        route.validate("route[0]", &mut faults);
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        let wanted = ["messages", "messages.in_flight", "messages.attempts", "messages.max_message"];
        assert_eq!(keys, wanted.map(|key| format!("route[0].{key}")));
    }
}

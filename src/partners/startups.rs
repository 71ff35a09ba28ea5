//! Random early drop: the more connections have not logged in, the more likely a new one of a stranger is turned away.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `start:rate:full`, as OpenSSH's `MaxStartups`: from `start` connections without a login on, a new one is turned away
/// with a likelihood of `rate` per cent, which grows until all are at `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaxStartups {
    start: u32,
    rate: u32,
    full: u32,
}

/// Why a text is no `start:rate:full`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not \"start:rate:full\"; write for example \"128:30:512\": three numbers, of which the rate is from 1 to 100 \
     and full not less than start"
)]
pub struct BadStartups(String);

impl Default for MaxStartups {
    fn default() -> Self {
        Self { start: 128, rate: 30, full: 512 }
    }
}

impl MaxStartups {
    /// Nobody is turned away by it.
    pub(super) fn never() -> Self {
        Self { start: u32::MAX, rate: 1, full: u32::MAX }
    }

    /// The likelihood in per cent that one more is turned away when there are `startups` already.
    fn likelihood(self, startups: u32) -> u32 {
        if startups < self.start {
            return 0;
        }
        if startups >= self.full {
            return 100;
        }
        let (beyond, span) = (u64::from(startups - self.start), u64::from(self.full - self.start));
        self.rate + u32::try_from(u64::from(100 - self.rate) * beyond / span).unwrap_or(0)
    }

    /// Returns true if one more is turned away, by a `roll` from 0 to 99.
    pub(super) fn turns_away(self, startups: u32, roll: u32) -> bool {
        roll < self.likelihood(startups)
    }
}

impl FromStr for MaxStartups {
    type Err = BadStartups;

    fn from_str(text: &str) -> Result<Self, BadStartups> {
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[start, rate, full]) if (1..=100).contains(&rate) && start <= full && full > 0 => {
                Ok(Self { start, rate, full })
            }
            _ => Err(BadStartups(text.to_owned())),
        }
    }
}

impl TryFrom<String> for MaxStartups {
    type Error = BadStartups;

    fn try_from(text: String) -> Result<Self, BadStartups> {
        text.parse()
    }
}

impl From<MaxStartups> for String {
    fn from(startups: MaxStartups) -> Self {
        startups.to_string()
    }
}

impl fmt::Display for MaxStartups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.start, self.rate, self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likelihood_grows_from_the_rate_to_all() {
        let startups: MaxStartups = "10:30:100".parse().unwrap();
        for (count, likelihood) in [(0, 0), (9, 0), (10, 30), (55, 65), (99, 99), (100, 100), (5000, 100)] {
            assert_eq!(startups.likelihood(count), likelihood, "{count}");
        }
        assert!(startups.turns_away(10, 29) && !startups.turns_away(10, 30) && startups.turns_away(100, 99));
        let at_once: MaxStartups = "10:100:10".parse().unwrap();
        assert_eq!([at_once.likelihood(9), at_once.likelihood(10)], [0, 100]);
    }

    #[test]
    fn slips_are_told() {
        for text in ["", "10", "10:30", "10:0:100", "10:101:100", "100:30:10", "a:b:c", "0:1:0", "1:2:3:4"] {
            assert!(text.parse::<MaxStartups>().is_err(), "{text}");
        }
        assert_eq!("128:30:512".parse(), Ok(MaxStartups::default()));
        assert_eq!(MaxStartups::default().to_string(), "128:30:512");
    }
}

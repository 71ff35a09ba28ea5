//! Globs: one reader and one matcher for configuration and for clients.
//!
//! Both sides are [`folded`]: letter case and the form of accents do not count. Matching takes time in proportion to the
//! lengths of glob and text alone, however a glob is written.

use std::{iter::Peekable, str::Chars};

use super::text::folded;

/// Alternatives that a glob may be written out to.
const MOST_ALTERNATIVES: usize = 256;
/// Stars in a client's glob: each costs as much again for every name of a folder.
const MOST_STARS: usize = 8;

/// A glob. `?` is any character but `/`, `*` any number of them, `[ab0-9]` and `[!ab]` one of a set; in configuration
/// also `{a,b}` either, and `**` as a whole component any number of components. `\` takes the next character as it is.
#[derive(Clone, Debug)]
pub struct Glob {
    alternatives: Vec<Vec<Token>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Is(char),
    One,
    Many,
    /// Any number of characters, `/` too.
    Deep,
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Why a text is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// A bracket or brace is not closed, or closes nothing.
    #[error("has a {0:?} without its counterpart")]
    Unpaired(char),
    /// A range goes backwards.
    #[error("has the range {0:?} to {1:?}, which goes backwards")]
    Range(char, char),
    /// A backslash is the last character.
    #[error("ends with a backslash")]
    Escape,
    /// Braces stand for too much.
    #[error("stands for more than {MOST_ALTERNATIVES} globs")]
    TooMany,
}

impl Glob {
    /// Reads a glob of the configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(glob: &str) -> Result<Self, GlobError> {
        if glob.is_empty() {
            return Err(GlobError::Empty);
        }
        // Once here: the text is folded as it is matched.
        let folded = folded(glob);
        let mut reader = Reader { rest: folded.chars().peekable(), before: None, depth: 0 };
        let alternatives = reader.alternatives()?;
        match reader.rest.next() {
            // The reader stops early only at what closes nothing.
            Some(left) => Err(GlobError::Unpaired(left)),
            None => Ok(Self { alternatives }),
        }
    }

    /// Reads a glob of a client, which has no braces: what is no glob, and what has more than eight stars, is none.
    #[must_use]
    pub fn of_client(glob: &str) -> Option<Self> {
        // A plain name is looked up, which is exact, and not searched for.
        if !glob.contains(['*', '?', '[']) {
            return None;
        }
        let mut plain = String::with_capacity(glob.len());
        for c in glob.chars() {
            // Braces are names' own characters for FTP clients.
            if matches!(c, '{' | '}' | ',') {
                plain.push('\\');
            }
            plain.push(c);
        }
        let glob = Self::new(&plain).ok()?;
        let stars = glob.alternatives.iter().flatten().filter(|token| matches!(token, Token::Many | Token::Deep));
        (stars.count() <= MOST_STARS).then_some(glob)
    }

    /// Returns whether it matches all of a text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.matches_folded(&folded(text))
    }

    /// The same for a text that is [`folded`] already.
    #[must_use]
    pub fn matches_folded(&self, text: &str) -> bool {
        self.alternatives.iter().any(|tokens| is_match(tokens, text))
    }
}

/// Follows all ways through the glob at once, a character at a time.
fn is_match(tokens: &[Token], text: &str) -> bool {
    // One place for each token that may come next, and one behind the last: set means that some way
    // has come there. So time is tokens by characters, without going back.
    let mut here = vec![false; tokens.len() + 1];
    here[0] = true;
    pass_stars(tokens, &mut here);
    let mut next = vec![false; tokens.len() + 1];
    for c in text.chars() {
        next.fill(false);
        for (at, token) in tokens.iter().enumerate().filter(|(at, _)| here[*at]) {
            match token {
                // It stays where it is; that it may stand for nothing is `pass_stars`.
                Token::Many if c != '/' => next[at] = true,
                Token::Deep => next[at] = true,
                // Takes this one character and goes on.
                token if token.takes(c) => next[at + 1] = true,
                _ => {}
            }
        }
        pass_stars(tokens, &mut next);
        std::mem::swap(&mut here, &mut next);
    }
    here[tokens.len()]
}

/// A star may stand for nothing.
fn pass_stars(tokens: &[Token], at: &mut [bool]) {
    for (place, token) in tokens.iter().enumerate() {
        // Front to back, so that a row of stars is passed in one go.
        if at[place] && matches!(token, Token::Many | Token::Deep) {
            at[place + 1] = true;
        }
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Is(own) => *own == c,
            Self::One => c != '/',
            Self::Set { negated, ranges } => {
                c != '/' && *negated != ranges.iter().any(|(first, last)| (*first..=*last).contains(&c))
            }
            Self::Many | Self::Deep => false,
        }
    }
}

/// Reads a glob into its alternatives.
struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    /// The character before.
    before: Option<char>,
    /// Braces that are open.
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self) -> Option<char> {
        let taken = self.rest.next();
        // Kept at the end too: a star there asks what stood before it.
        self.before = taken.or(self.before);
        taken
    }

    /// Reads to the end, or in braces to the next comma or their end.
    fn alternatives(&mut self) -> Result<Vec<Vec<Token>>, GlobError> {
        let mut all = vec![Vec::new()];
        while let Some(&c) = self.rest.peek() {
            if self.depth > 0 && matches!(c, ',' | '}') {
                break;
            }
            let next = self.next()?;
            // Before they are made: a few braces in a row multiply.
            if all.len() * next.len() > MOST_ALTERNATIVES {
                return Err(GlobError::TooMany);
            }
            let longer = |one: &Vec<Token>| next.iter().map(|more| [&one[..], more].concat()).collect::<Vec<_>>();
            all = all.iter().flat_map(longer).collect();
        }
        Ok(all)
    }

    /// What the next characters may stand for.
    fn next(&mut self) -> Result<Vec<Vec<Token>>, GlobError> {
        let before = self.before;
        let one = |token| Ok(vec![vec![token]]);
        match self.take() {
            None => Ok(vec![Vec::new()]),
            Some('?') => one(Token::One),
            Some('*') => Ok(self.stars(before)),
            Some('[') => one(self.set()?),
            Some('{') => self.braces(),
            Some('}') => Err(GlobError::Unpaired('}')),
            Some('\\') => one(Token::Is(self.take().ok_or(GlobError::Escape)?)),
            Some(c) => one(Token::Is(c)),
        }
    }

    /// `**` between slashes stands for any number of components, none included.
    fn stars(&mut self, before: Option<char>) -> Vec<Vec<Token>> {
        let mut count = 1;
        while self.rest.peek() == Some(&'*') {
            self.take();
            count += 1;
        }
        let at_start = matches!(before, None | Some('/'));
        match (count > 1 && at_start, self.rest.peek()) {
            (true, None) => vec![vec![Token::Deep]],
            // `**/x` is also plain `x`: the slash goes with the stars.
            (true, Some('/')) => {
                self.take();
                vec![Vec::new(), vec![Token::Deep, Token::Is('/')]]
            }
            _ => vec![vec![Token::Many]],
        }
    }

    fn set(&mut self) -> Result<Token, GlobError> {
        let negated = self.rest.next_if(|c| matches!(c, '!' | '^')).is_some();
        let mut ranges = Vec::new();
        loop {
            let first = match self.take().ok_or(GlobError::Unpaired('['))? {
                // The first may be the bracket itself.
                ']' if !ranges.is_empty() => return Ok(Token::Set { negated, ranges }),
                c => c,
            };
            // A dash is a range between two characters, and a dash at the end of a set.
            let mut ahead = self.rest.clone();
            let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|last| last != ']');
            if !is_range {
                ranges.push((first, first));
                continue;
            }
            self.take();
            let last = self.take().ok_or(GlobError::Unpaired('['))?;
            // Of folded characters: `[A-z]` was folded to `[a-z]` before.
            if last < first {
                return Err(GlobError::Range(first, last));
            }
            ranges.push((first, last));
        }
    }

    fn braces(&mut self) -> Result<Vec<Vec<Token>>, GlobError> {
        self.depth += 1;
        let mut all = Vec::new();
        loop {
            all.extend(self.alternatives()?);
            if all.len() > MOST_ALTERNATIVES {
                return Err(GlobError::TooMany);
            }
            match self.take() {
                Some(',') => {}
                Some(_) => break,
                None => return Err(GlobError::Unpaired('{')),
            }
        }
        self.depth -= 1;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_what_they_say() {
        for (glob, text, matched) in [
            ("*.hl7", "a.HL7", true),
            ("*.hl7", "a.hl7.part", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "aüc", true),
            ("a?c", "a/c", false),
            ("GRÖ?E.*", "gro\u{308}ße.txt", true),
            ("[äÖ-Ü]x", "ÄX", true),
            ("[!ä]x", "äx", false),
            ("[^a-c]", "d", true),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("a*b*c", "a--b--b-c", true),
            ("a*b*c", "a--c--b", false),
            ("{a,b{c,d}}.txt", "BD.txt", true),
            ("{a,b{c,d}}.txt", "b.txt", false),
            ("x{,.old}", "x", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("in/*.txt", "in/a.txt", true),
            ("in/*.txt", "in/b/a.txt", false),
            ("deep/**/x", "deep/x", true),
            ("deep/**/x", "deep/1/2/x", true),
            ("deep/**/x", "deepx", false),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "a/bx", false),
            ("in/**", "in/a/b", true),
            ("in/**", "in", false),
            ("**", "a/b", true),
            ("a**b", "a/b", false),
        ] {
            assert_eq!(Glob::new(glob).unwrap().matches(text), matched, "{glob} {text}");
        }
    }

    #[test]
    fn what_is_no_glob_is_told() {
        for bad in ["", "[a", "{a", "a}", "[b-a]", "a\\", &"{a,b}".repeat(9)] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_has_no_braces_and_few_stars() {
        assert!(Glob::of_client("{a}*").unwrap().matches("{a}b"));
        assert!(Glob::of_client("a.hl7").is_none() && Glob::of_client("[a").is_none());
        assert!(Glob::of_client(&"*a".repeat(MOST_STARS + 1)).is_none());
    }

    #[test]
    fn no_glob_takes_longer_than_glob_times_text() {
        let glob = Glob::new(&"*a".repeat(100)).unwrap();
        assert!(!glob.matches(&format!("{}b", "a".repeat(4000))));
    }
}

//! `Content-Digest` (RFC 9530): a digest of the content as it is sent.

use data_encoding::BASE64;
use sha2::{Digest, Sha256, Sha512};

/// The digests that a content has to have, and the content so far.
#[derive(Clone, Debug, Default)]
pub struct ContentDigest {
    sha256: Option<(Sha256, Vec<u8>)>,
    sha512: Option<(Sha512, Vec<u8>)>,
}

/// The reason why a header is no Content-Digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no list of digests; write for example sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:")]
pub struct BadDigest;

impl ContentDigest {
    /// Reads the lines of the header. Algorithms that are not known, and those that prove nothing any more, are ignored.
    ///
    /// # Errors
    /// When they are no dictionary of byte sequences. (RFC 9651, 3.2)
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, BadDigest> {
        let mut digest = Self::default();
        for line in lines {
            let line = std::str::from_utf8(line).map_err(|_| BadDigest)?;
            for member in line.split(',').map(str::trim) {
                digest.member(member)?;
            }
        }
        Ok(digest)
    }

    fn member(&mut self, member: &str) -> Result<(), BadDigest> {
        let (algorithm, value) = member.split_once('=').ok_or(BadDigest)?;
        let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
        if algorithm.is_empty() || !algorithm.bytes().all(is_key) {
            return Err(BadDigest);
        }
        let (value, _parameters) = value.split_once(';').unwrap_or((value, ""));
        let bytes = value.trim_end().strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or(BadDigest)?;
        let bytes = BASE64.decode(bytes.as_bytes()).map_err(|_| BadDigest)?;
        match algorithm {
            // The last of two counts. (RFC 9651, 4.2.2)
            "sha-256" => self.sha256 = Some((Sha256::new(), bytes)),
            "sha-512" => self.sha512 = Some((Sha512::new(), bytes)),
            _ => {}
        }
        Ok(())
    }

    /// Takes the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some((hash, _)) = &mut self.sha256 {
            hash.update(bytes);
        }
        if let Some((hash, _)) = &mut self.sha512 {
            hash.update(bytes);
        }
    }

    /// Returns true if the content has every digest that was asked of it.
    #[must_use]
    pub fn is_right(self) -> bool {
        self.sha256.is_none_or(|(hash, wanted)| hash.finalize().as_slice() == wanted)
            && self.sha512.is_none_or(|(hash, wanted)| hash.finalize().as_slice() == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(header: &str, content: &[u8]) -> Result<bool, BadDigest> {
        let mut digest = ContentDigest::parse([header.as_bytes()])?;
        content.chunks(3).for_each(|bytes| digest.update(bytes));
        Ok(digest.is_right())
    }

    /// The examples of RFC 9530, appendix B, over `{"hello": "world"}` and a line end.
    #[test]
    fn digests_are_those_of_the_rfc() {
        let content = b"{\"hello\": \"world\"}\n";
        let sha256 = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let sha512 =
            "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
        assert_eq!(judged(sha256, content), Ok(true));
        assert_eq!(judged(&format!("{sha256}, {sha512}"), content), Ok(true));
        assert_eq!(judged(&format!("{sha256};a=1,md5=:AA==:"), content), Ok(true));
        assert_eq!(judged(sha256, b"{\"hello\": \"world\"}"), Ok(false));
        assert_eq!(judged(&format!("{sha512}, {}", sha256.replace("RK", "RL")), content), Ok(false));
        assert_eq!(judged("unixsum=:AA==:", content), Ok(true), "unknown ones are ignored");
        assert_eq!(judged("sha-256=:AA==:", content), Ok(false), "too short is wrong");
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        for bad in
            ["", "sha-256", "sha-256=abc", "sha-256=:a:", "sha-256=:AA==", "SHA-256=:AA==:", "=:AA==:", "a=:AA==:,"]
        {
            assert_eq!(judged(bad, b""), Err(BadDigest), "{bad}");
        }
    }
}

//! The taking of a file: a new one, or one that may have been taken before under the same `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header).

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};

use super::Problem;
use crate::{
    doors::core::{PartnerSession, paths},
    ingest::{Accepted, IdempotencyKey, Intake, KeyClaim, KeyReused, KeyState, ProvenFinal, Repeat},
};

const FIELD: &str = "Idempotency-Key";

/// The key of a request, and what is known of it.
pub(super) enum Key {
    /// There is none.
    None,
    /// It is this request's.
    Claimed(KeyClaim),
    /// A file was taken under it.
    Used(Repeat),
}

/// A file that is being taken.
pub(super) enum Taking {
    New(Intake),
    /// Its bytes are compared with those that were taken before.
    Again(Box<Repeat>, String),
}

impl Key {
    /// Claims the key of a request, before the first byte of its body is read.
    pub(super) async fn claim(partner: &PartnerSession, headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(key) = key_of(headers)? else { return Ok(Self::None) };
        match partner.ingest.claim_key(&partner.info, key).await? {
            KeyState::Free(claim) => Ok(Self::Claimed(claim)),
            KeyState::Used(repeat) => Ok(Self::Used(repeat)),
            KeyState::UnderWay => {
                Err(Problem::new(StatusCode::CONFLICT, "another request with this key is under way").of(FIELD))
            }
        }
    }
}

/// The key: a string in quotes, as the draft has it, or a bare token.
fn key_of(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut lines = headers.get_all("idempotency-key").iter();
    let Some(value) = lines.next() else { return Ok(None) };
    let bad = |what: &str| Problem::bad(what).of(FIELD);
    if lines.next().is_some() {
        return Err(bad("stands twice"));
    }
    let text = value.to_str().map_err(|_| bad("is no printable text"))?;
    let text = unquoted(text.trim()).ok_or_else(|| bad("is no string in quotes, and no token"))?;
    text.parse().map(Some).map_err(|error: <IdempotencyKey as std::str::FromStr>::Err| bad(&error.to_string()))
}

fn unquoted(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let is_token = !text.is_empty() && !text.contains(['"', ',', ';', ' ']);
        return is_token.then(|| text.to_owned());
    };
    let (mut value, mut rest) = (String::new(), quoted.chars());
    loop {
        match rest.next()? {
            '"' => break,
            '\\' => value.push(rest.next().filter(|c| matches!(c, '"' | '\\'))?),
            c => value.push(c),
        }
    }
    let behind = rest.as_str().trim_start();
    (behind.is_empty() || behind.starts_with(';')).then_some(value)
}

impl Taking {
    /// Begins to take a file of this name.
    pub(super) async fn begin(
        partner: &PartnerSession,
        name: &str,
        declared: Option<u64>,
        key: Key,
    ) -> Result<Self, Problem> {
        let path = match paths::changed("/", name) {
            Some(path) if !name.ends_with('/') && path != "/" => path,
            _ => return Err(Problem::bad("is no path of a file below the login directory").of("name")),
        };
        Ok(match key {
            Key::None => Self::New(partner.begin(&path, declared).await?),
            Key::Claimed(claim) => Self::New(partner.ingest.begin_keyed(&partner.info, &path, declared, claim).await?),
            Key::Used(repeat) => Self::Again(Box::new(repeat), path),
        })
    }

    /// Takes the next bytes.
    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), Problem> {
        match self {
            Self::New(intake) => Ok(intake.write(piece).await?),
            Self::Again(repeat, _) => repeat.write(&piece).map_err(reused),
        }
    }

    /// The file is whole: keeps it, or finds that it was kept before.
    pub(super) async fn finish(self) -> Result<Accepted, Problem> {
        match self {
            Self::New(intake) => Ok(intake.finish(Box::new(ProvenFinal)).await?),
            Self::Again(repeat, path) => repeat.finish(&path).map_err(reused),
        }
    }

    /// It will not be whole. Nobody could go on with it here, so nothing of it is kept.
    pub(super) async fn discard(self) {
        if let Self::New(intake) = self {
            intake.discard().await;
        }
    }
}

fn reused(error: KeyReused) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).of(FIELD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_strings_in_quotes_or_tokens() {
        for (header, key) in [
            ("abc-1", Some("abc-1")),
            ("\"abc 1\"", Some("abc 1")),
            ("\"a\\\"b\\\\\"", Some("a\"b\\")),
            ("\"abc\"; a=1", Some("abc")),
            ("\"abc", None),
            ("\"abc\"d", None),
            ("\"a\\b\"", None),
            ("a b", None),
            ("a,b", None),
            ("", None),
        ] {
            assert_eq!(unquoted(header).as_deref(), key, "{header}");
        }
    }
}

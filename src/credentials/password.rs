//! Passwords: argon2id hashes, their verification, and generated ones.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{self, Output, ParamsString, PasswordHash, Salt, SaltString},
};

use super::memory::Memory;

/// The longest password, in bytes: what is longer is not hashed as itself, so that no one makes us hash megabytes.
const MAX_PASSWORD_BYTES: usize = 1024;

/// OWASP's present minimum for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The most that a hash from a file may ask for, so that a file cannot exhaust the memory.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 4;

/// Why there is no hash of a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unhashed {
    /// It cannot be a password.
    #[error("password {0}")]
    Password(&'static str),
    /// The run failed.
    #[error("cannot hash the password: {0}")]
    Failed(String),
}

/// An argon2id hash in PHC form. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(String);

impl Hash {
    /// Hashes `password` with a fresh salt. Takes some 20 ms and 19 MiB.
    ///
    /// # Errors
    /// [`Unhashed::Password`] for one that nobody could send or that is too long; [`Unhashed::Failed`].
    pub fn of(password: &str) -> Result<Self, Unhashed> {
        check(password)?;
        Self::salted(password).map_err(Unhashed::Failed)
    }

    fn salted(password: &str) -> Result<Self, String> {
        let salt = rand::random::<[u8; 16]>();
        let output = run(&argon2()?, password.as_bytes(), &salt, 32).map_err(|error| error.to_string())?;
        Self::with(&salt, output)
    }

    fn with(salt: &[u8], output: Output) -> Result<Self, String> {
        let salt = SaltString::encode_b64(salt).map_err(|error| error.to_string())?;
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(argon2()?.params()).map_err(|error| error.to_string())?,
            salt: Some(salt.as_salt()),
            hash: Some(output),
        };
        Ok(Self(hash.to_string()))
    }

    /// Reads a hash from a file.
    ///
    /// # Errors
    /// The fault of the text, which is never quoted.
    pub fn read(phc: &str) -> Result<Self, &'static str> {
        let hash = PasswordHash::new(phc).map_err(|_| "hash is no PHC string")?;
        if hash.algorithm != Algorithm::Argon2id.ident() {
            return Err("hash is not argon2id");
        }
        let params = Params::try_from(&hash).map_err(|_| "hash has parameters that argon2id does not take")?;
        if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
            return Err("hash asks for more memory or time than is allowed");
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err("hash has no salt or no output");
        }
        Ok(Self(phc.to_owned()))
    }

    /// A hash of nothing that anyone knows: random output under a random salt. Verifying against it costs what
    /// verifying against a real one costs.
    pub(super) fn dummy() -> Result<Self, String> {
        let output = Output::new(&rand::random::<[u8; 32]>()).map_err(|error| error.to_string())?;
        Self::with(&rand::random::<[u8; 16]>(), output)
    }

    /// The text of it, to be stored.
    #[must_use]
    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// Verifies passwords, and counts what it ran.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    runs: AtomicU64,
}

impl Verifier {
    /// Returns true if `password` matches `hash`. One argon2id run, whatever the answer.
    pub(super) fn matches(&self, password: &str, hash: &Hash) -> bool {
        let Ok(hash) = PasswordHash::new(&hash.0) else { return false };
        // A password beyond the limit runs like any other and is never right.
        let (hashed, too_long) = match password.as_bytes() {
            bytes if bytes.len() > MAX_PASSWORD_BYTES => (&bytes[..MAX_PASSWORD_BYTES], true),
            bytes => (bytes, false),
        };
        self.runs.fetch_add(1, Ordering::Relaxed);
        let right = is_of(hashed, &hash).unwrap_or(false);
        right && !too_long
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }
}

fn is_of(password: &[u8], hash: &PasswordHash<'_>) -> password_hash::Result<bool> {
    let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else { return Ok(false) };
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let argon2 = Argon2::new(Algorithm::Argon2id, version, Params::try_from(hash)?);
    let mut bytes = [0; Salt::MAX_LENGTH];
    // In constant time.
    Ok(run(&argon2, password, salt.decode_b64(&mut bytes)?, expected.len())? == expected)
}

fn run(argon2: &Argon2<'_>, password: &[u8], salt: &[u8], output_bytes: usize) -> password_hash::Result<Output> {
    let mut memory = Memory::of(argon2.params().block_count()).map_err(|error| {
        tracing::error!(%error, "no memory to verify a password");
        password_hash::Error::Crypto
    })?;
    Output::init_with(output_bytes, |output| {
        Ok(argon2.hash_password_into_with_memory(password, salt, output, memory.blocks())?)
    })
}

fn argon2() -> Result<Argon2<'static>, String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| error.to_string())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn check(password: &str) -> Result<(), Unhashed> {
    if password.is_empty() {
        return Err(Unhashed::Password("is empty"));
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(Unhashed::Password("is longer than 1024 bytes"));
    }
    // Neither could be sent: FTP's PASS is one line.
    if password.contains(['\r', '\n', '\0']) {
        return Err(Unhashed::Password("must not hold a line end or NUL"));
    }
    Ok(())
}

/// A password that is easy to read out and to copy: five groups of five from 31 letters and digits without look-alikes,
/// 123 bits of chance.
#[must_use]
pub fn generate_password() -> String {
    const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut password = String::with_capacity(29);
    let mut count = 0;
    while count < 25 {
        let byte = usize::from(rand::random::<u8>());
        // 248 = 8 * 31: every letter has the same chance.
        if byte < 248 {
            if count > 0 && count % 5 == 0 {
                password.push('-');
            }
            password.push(char::from(LETTERS[byte % 31]));
            count += 1;
        }
    }
    password
}

/// Returns true if `password` matches `hash`.
#[cfg(test)]
#[must_use]
pub fn matches(password: &str, hash: &Hash) -> bool {
    Verifier::default().matches(password, hash)
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher;

    use super::*;

    #[test]
    fn the_parameters_are_those_of_owasp() {
        let hash = Hash::of("secret").unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_phc());
        assert!(Hash::dummy().unwrap().as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(!format!("{hash:?}").contains("argon2id"), "a hash is never shown");
    }

    #[test]
    fn the_right_password_matches_and_no_other() {
        let (verifier, hash) = (Verifier::default(), Hash::of("secret").unwrap());
        assert!(verifier.matches("secret", &hash));
        assert!(!verifier.matches("Secret", &hash));
        assert!(!verifier.matches("", &hash));
        assert!(!verifier.matches("secret", &Hash::dummy().unwrap()));
        assert_eq!(verifier.runs(), 4);
    }

    #[test]
    fn hashes_of_others_are_verified_like_ours() {
        let verifier = Verifier::default();
        assert!(verifier.matches("secret", &Hash::of("secret").unwrap()));
        let salt = SaltString::encode_b64(b"salt of others").unwrap();
        for (memory, passes, lanes, bytes) in [(64, 1, 1, 16), (1024, 3, 4, 32), (32 << 10, 1, 2, 64)] {
            let params = Params::new(memory, passes, lanes, Some(bytes)).unwrap();
            let other = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let hash = Hash::read(&other.hash_password(b"secret", &salt).unwrap().to_string()).unwrap();
            assert!(verifier.matches("secret", &hash) && !verifier.matches("other", &hash), "{memory} KiB");
        }
    }

    #[test]
    fn a_longer_password_is_never_cut_to_a_right_one() {
        let longest = "x".repeat(MAX_PASSWORD_BYTES);
        let (verifier, hash) = (Verifier::default(), Hash::of(&longest).unwrap());
        assert!(verifier.matches(&longest, &hash));
        assert!(!verifier.matches(&format!("{longest}y"), &hash));
    }

    #[test]
    fn hashes_that_are_not_ours_are_refused() {
        for (phc, why) in [
            ("", "no PHC"),
            ("plain", "no PHC"),
            ("$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA", "not argon2id"),
            ("$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA", "more memory"),
            ("$argon2id$v=19$m=19456,t=9999,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA", "more memory or time"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0", "no salt or no output"),
        ] {
            let fault = Hash::read(phc).unwrap_err();
            assert!(fault.contains(why), "{phc}: {fault}");
        }
    }

    #[test]
    fn generated_passwords_differ_and_have_no_look_alikes() {
        let (one, other) = (generate_password(), generate_password());
        assert_ne!(one, other);
        assert_eq!(one.len(), 29);
        assert!(!one.contains(['0', 'o', '1', 'l', 'i']), "{one}");
    }
}

//! Public keys by which partners may log in: a line each, as OpenSSH's `authorized_keys` has them.
//!
//! An option that is not understood is refused and not passed over: it was meant to restrict
//! something. Only `from=` is served, by addresses; names of hosts are not looked up, since whoever
//! answers for a name would decide who comes in.

use std::{fmt, net::IpAddr};

use russh::keys::{Algorithm, HashAlg, PublicKey};

use super::Network;

/// The smallest RSA key that is taken.
const LEAST_RSA_BITS: u32 = 2048;
/// The longest line: an RSA key of 16,384 bits and a long comment.
const MAX_LINE_BYTES: usize = 8 << 10;
/// Options that forbid what this server never does.
const HOLD_ANYWAY: [&str; 6] =
    ["restrict", "no-pty", "no-port-forwarding", "no-agent-forwarding", "no-x11-forwarding", "no-user-rc"];

/// A public key, and where it may be used from.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorizedKey {
    line: String,
    key: PublicKey,
    from: Vec<(Place, Effect)>,
}

/// The effect of a pattern that matches: the key may be used, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// One pattern of `from=`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Network(Network),
    /// With `*` and `?`.
    Pattern(String),
}

/// Why a line is no key that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadKey(pub(super) String);

impl AuthorizedKey {
    /// Reads a line: `[options] type key [comment]`.
    ///
    /// # Errors
    /// The fault of the line, for the person who wrote it.
    pub fn parse(line: &str) -> Result<Self, BadKey> {
        let line = line.trim();
        if line.len() > MAX_LINE_BYTES {
            return Err(bad(format!("the line is longer than {MAX_LINE_BYTES} bytes")));
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(bad("it is more than one line, or no text"));
        }
        if line.contains("PRIVATE KEY") {
            return Err(bad("this is a private key: give the public one, the file that ends with .pub"));
        }
        // Options may hold blanks and commas in quotes, so the line cannot be cut at blanks.
        let (options, rest) = split_options(line)?;
        let key = PublicKey::from_openssh(rest).map_err(|error| {
            bad(format!("no public key in OpenSSH's form (\"ssh-ed25519 AAAA… comment\"): {error}"))
        })?;
        check_kind(&key)?;
        let mut from = Vec::new();
        for option in options {
            let name = option.split('=').next().unwrap_or_default().to_ascii_lowercase();
            match name.as_str() {
                "from" => from.extend(parse_from(&option)?),
                "verify-required" | "no-touch-required" => {
                    return Err(bad(format!("option {name} is for security keys, which are not served")));
                }
                "cert-authority" => {
                    return Err(bad("option cert-authority is not served: see [sftp] trusted_ca in forebay.toml"));
                }
                name if HOLD_ANYWAY.contains(&name) => {}
                name => return Err(bad(format!("option {name} is not served; only from=\"…\" is"))),
            }
        }
        Ok(Self { line: line.to_owned(), key, from })
    }

    /// The line, as it was given.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// `SHA256:…`, as OpenSSH shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Its kind, such as `ssh-ed25519`.
    #[must_use]
    pub fn algorithm(&self) -> String {
        match self.key.algorithm() {
            Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
            other => other.as_str().to_owned(),
        }
    }

    /// The comment after the key.
    #[must_use]
    pub fn comment(&self) -> String {
        self.key.comment().to_string()
    }

    /// Where it may be used from, if that is limited.
    #[must_use]
    pub fn places(&self) -> Option<String> {
        let shown = |(place, effect): &(Place, Effect)| {
            let not = if *effect == Effect::Deny { "!" } else { "" };
            match place {
                Place::Network(network) => format!("{not}{network}"),
                Place::Pattern(pattern) => format!("{not}{pattern}"),
            }
        };
        (!self.from.is_empty()).then(|| self.from.iter().map(shown).collect::<Vec<_>>().join(","))
    }

    /// Returns true if `key` is this key.
    #[must_use]
    pub fn is(&self, key: &PublicKey) -> bool {
        self.key.key_data() == key.key_data()
    }

    /// Returns true if the key may be used from this address: one pattern matches, and none that begins with `!`.
    #[must_use]
    pub fn allows(&self, peer: IpAddr) -> bool {
        if self.from.is_empty() {
            return true;
        }
        let fits = |effect| self.from.iter().any(|(place, one)| *one == effect && place.holds(peer));
        // As OpenSSH: one that denies wins over all that allow.
        fits(Effect::Allow) && !fits(Effect::Deny)
    }
}

impl Place {
    fn holds(&self, peer: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(peer),
            Self::Pattern(pattern) => fits(pattern.as_bytes(), peer.to_canonical().to_string().as_bytes()),
        }
    }
}

impl fmt::Debug for AuthorizedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizedKey").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn bad(what: impl Into<String>) -> BadKey {
    BadKey(what.into())
}

fn check_kind(key: &PublicKey) -> Result<(), BadKey> {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(()),
        Algorithm::Rsa { .. } => {
            let bits = key.key_data().rsa().map_or(0, |rsa| rsa.key_size());
            match bits < LEAST_RSA_BITS {
                true => Err(bad(format!("an RSA key of {bits} bits is too short: {LEAST_RSA_BITS} at least"))),
                false => Ok(()),
            }
        }
        other => Err(bad(format!("keys of type {} are not served", other.as_str()))),
    }
}

/// The options in front of the key, each with its value, and the rest of the line.
fn split_options(line: &str) -> Result<(Vec<String>, &str), BadKey> {
    let first = line.split([' ', '\t']).next().unwrap_or_default();
    // A line without options begins with the type of its key.
    if Algorithm::new(first).is_ok_and(|algorithm| !matches!(algorithm, Algorithm::Other(_))) {
        return Ok((Vec::new(), line));
    }
    let (mut options, mut option, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for (at, c) in line.char_indices() {
        match c {
            '"' if !escaped => {
                quoted = !quoted;
                option.push(c);
            }
            ',' if !quoted => options.push(std::mem::take(&mut option)),
            ' ' | '\t' if !quoted => {
                options.push(option);
                return Ok((options, line[at..].trim_start()));
            }
            c => option.push(c),
        }
        // A quote that follows a backslash belongs to the value (sshd(8), AUTHORIZED_KEYS FILE
        // FORMAT).
        escaped = c == '\\' && !escaped;
    }
    Err(bad("no public key in OpenSSH's form (\"ssh-ed25519 AAAA… comment\")"))
}

fn parse_from(option: &str) -> Result<Vec<(Place, Effect)>, BadKey> {
    let value = option.split_once('=').map(|(_, value)| value.trim()).unwrap_or_default();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = value.filter(|value| !value.is_empty()).ok_or_else(|| bad("write from=\"…\" with addresses"))?;
    value.split(',').map(str::trim).map(parse_place).collect()
}

fn parse_place(text: &str) -> Result<(Place, Effect), BadKey> {
    let (text, effect) = match text.strip_prefix('!') {
        Some(rest) => (rest, Effect::Deny),
        None => (text, Effect::Allow),
    };
    if let Ok(network) = text.parse::<Network>() {
        return Ok((Place::Network(network), effect));
    }
    let wild = text.contains(['*', '?']);
    if wild && text.chars().all(|c| c.is_ascii_hexdigit() || ".:*?".contains(c)) {
        return Ok((Place::Pattern(text.to_owned()), effect));
    }
    Err(bad(format!("from=\"{text}\" is no address, network or pattern of addresses; host names are not looked up")))
}

/// `*` stands for any characters, `?` for one.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read, mut back) = (0, 0, None);
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                back = Some((at, read));
                at += 1;
            }
            Some(one) if *one == b'?' || *one == text[read] => (at, read) = (at + 1, read + 1),
            _ => {
                // The last `*` takes one more.
                let Some((star, taken)) = back else { return false };
                back = Some((star, taken + 1));
                (at, read) = (star + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|one| *one == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn allows(options: &str, peer: &str) -> bool {
        AuthorizedKey::parse(&format!("{options} {KEY} a comment")).unwrap().allows(peer.parse().unwrap())
    }

    #[test]
    fn a_key_is_read() {
        let key = AuthorizedKey::parse(&format!("{KEY} clinic@example")).unwrap();
        assert!(key.fingerprint().starts_with("SHA256:"));
        assert_eq!((key.algorithm().as_str(), key.comment().as_str()), ("ssh-ed25519", "clinic@example"));
        assert_eq!(key.places(), None);
        assert!(key.allows("192.0.2.1".parse().unwrap()));
        assert_eq!(AuthorizedKey::parse(key.line()).unwrap(), key);
    }

    #[test]
    fn from_is_honoured() {
        for (options, peer, allowed) in [
            ("from=\"10.0.0.0/8\"", "10.1.2.3", true),
            ("from=\"10.0.0.0/8\"", "11.1.2.3", false),
            ("from=\"10.0.0.0/8,!10.1.0.0/16\"", "10.1.2.3", false),
            ("from=\"192.0.2.*\"", "192.0.2.77", true),
            ("from=\"192.0.2.?\"", "192.0.2.77", false),
            ("from=\"192.0.2.*\"", "::ffff:192.0.2.7", true),
            ("from=\"!192.0.2.1\"", "192.0.2.2", false),
            ("restrict,from=\"2001:db8::/32\",no-pty", "2001:db8::1", true),
        ] {
            assert_eq!(allows(options, peer), allowed, "{options} {peer}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (line, why) in [
            ("", "no public key"),
            ("hello world", "no public key"),
            (&format!("command=\"ls\" {KEY}"), "option command"),
            (&format!("from=\"*.example.com\" {KEY}"), "host names"),
            (&format!("from=10.0.0.1 {KEY}"), "write from="),
            (&format!("expiry-time=\"20300101\" {KEY}"), "option expiry-time"),
            (&format!("cert-authority {KEY}"), "trusted_ca"),
            (&format!("{KEY}\n{KEY}"), "more than one line"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
            ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQC7J7", "no public key"),
        ] {
            let told = AuthorizedKey::parse(line).unwrap_err().to_string();
            assert!(told.contains(why), "{line:?}: {told}");
        }
    }
}

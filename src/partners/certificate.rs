//! Certificates of clients, and which of them stand for a partner.
//!
//! That an authority has issued it, and that the client has its key, was checked by the TLS
//! handshake; here it is only told whose it is. A subject is compared as text in one exact form
//! (RFC 2253), so the writer of that form must be unambiguous: two different names never give one
//! text.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    der_parser::asn1_rs::{Any, Tag},
    prelude::{FromDer as _, X509Certificate},
    x509::X509Name,
};

const FINGERPRINT: &str = "sha256:";

/// The certificate that a client has presented in a TLS handshake: a configured authority has issued it, and the client
/// has its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    subject: String,
    fingerprint: [u8; 32],
}

impl ClientCertificate {
    /// Reads it; none when it cannot be read.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self { subject: written(parsed.subject()), fingerprint: Sha256::digest(der).into() })
    }

    /// Its subject as RFC 2253 writes it, such as `CN=clinic,O=Example`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The SHA-256 of the whole certificate.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&self.fingerprint)
    }
}

/// Which certificate stands for a partner: `sha256:` and the fingerprint, or the exact subject as
/// `openssl x509 -noout -subject -nameopt RFC2253` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Bound {
    /// The one with this fingerprint.
    Fingerprint([u8; 32]),
    /// Whatever the authority issues with this subject.
    Subject(String),
}

/// Why a text names no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no certificate; write \"sha256:\" and 64 hexadecimal digits, or a subject such as \"CN=clinic,O=Example\""
)]
pub struct BadBound(String);

impl Bound {
    /// Returns true if `certificate` is the bound one.
    #[must_use]
    pub fn is(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::Fingerprint(fingerprint) => *fingerprint == certificate.fingerprint,
            Self::Subject(subject) => *subject == certificate.subject,
        }
    }
}

impl FromStr for Bound {
    type Err = BadBound;

    fn from_str(text: &str) -> Result<Self, BadBound> {
        let bad = || BadBound(text.to_owned());
        let text = text.trim();
        let digits = text.get(..FINGERPRINT.len()).filter(|start| start.eq_ignore_ascii_case(FINGERPRINT));
        if digits.is_some() {
            // With colons, as OpenSSL prints them, or without.
            let digits: String = text[FINGERPRINT.len()..].chars().filter(|c| *c != ':').collect();
            return unhex(&digits).map(Self::Fingerprint).ok_or_else(bad);
        }
        // An empty subject would be anyone's who left it out.
        let type_and_value = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
        type_and_value.map(|_| Self::Subject(text.to_owned())).ok_or_else(bad)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(fingerprint) => write!(f, "{FINGERPRINT}{}", hex(fingerprint)),
            Self::Subject(subject) => f.write_str(subject),
        }
    }
}

impl TryFrom<String> for Bound {
    type Error = BadBound;

    fn try_from(text: String) -> Result<Self, BadBound> {
        text.parse()
    }
}

impl From<Bound> for String {
    fn from(bound: Bound) -> Self {
        bound.to_string()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// The name in the form of RFC 2253. Whatever could be taken for a boundary is escaped, so that no two names look
/// alike.
fn written(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    // RFC 2253, 2.1: the last part of the name comes first.
    let each = parts.iter().rev().map(|part| {
        let values = part.iter().map(|one| {
            let oid = one.attr_type().to_id_string();
            format!("{}={}", short(&oid), value(one.attr_value()))
        });
        values.collect::<Vec<_>>().join("+")
    });
    each.collect::<Vec<_>>().join(",")
}

fn short(oid: &str) -> &str {
    match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => other,
    }
}

/// Text escaped; anything else as the hexadecimal of its bytes.
fn value(value: &Any<'_>) -> String {
    let text = match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            std::str::from_utf8(value.data).ok()
        }
        _ => None,
    };
    // RFC 2253, 2.4: what is no string is the hexadecimal of its encoding; text in old encodings
    // (BMPString) is not guessed at.
    let Some(text) = text else { return format!("#{:02x}{}", value.tag().0, hex(value.data)) };
    let last = text.len().saturating_sub(1);
    let mut escaped = String::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => escaped.extend(['\\', char::from(byte)]),
            // RFC 2253, 2.4: at the beginning these would mean something else.
            b'#' | b' ' if at == 0 => escaped.extend(['\\', char::from(byte)]),
            b' ' if at == last => escaped.push_str("\\ "),
            b' '..=b'~' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("\\{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(parts: &[(DnType, &str)]) -> ClientCertificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::of(made.der()).unwrap()
    }

    #[test]
    fn subjects_are_written_as_openssl_does() {
        let country = DnType::CountryName;
        for (parts, subject) in [
            (
                vec![(country, "US"), (DnType::OrganizationName, "Example"), (DnType::CommonName, "clinic")],
                "CN=clinic,O=Example,C=US",
            ),
            (vec![(DnType::CommonName, "a,O=Example")], "CN=a\\,O=Example"),
            (vec![(DnType::CommonName, " a+b;c ")], "CN=\\ a\\+b\\;c\\ "),
            (vec![(DnType::CommonName, "Zürich\n")], "CN=Z\\C3\\BCrich\\0A"),
            (vec![(DnType::CustomDnType(vec![1, 2, 3, 4]), "x")], "1.2.3.4=x"),
            (vec![], ""),
        ] {
            assert_eq!(certificate(&parts).subject(), subject);
        }
    }

    #[test]
    fn only_the_exact_one_is_bound() {
        let one = certificate(&[(DnType::OrganizationName, "Example"), (DnType::CommonName, "clinic")]);
        let other = certificate(&[(DnType::OrganizationName, "Example"), (DnType::CommonName, "clinic")]);
        let forged = certificate(&[(DnType::CommonName, "clinic,O=Example")]);
        let subject: Bound = "CN=clinic,O=Example".parse().unwrap();
        assert!(subject.is(&one) && subject.is(&other) && !subject.is(&forged));
        let upper = one.fingerprint().to_ascii_uppercase();
        let colons: Vec<_> = upper.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        for text in [format!("sha256:{}", one.fingerprint()), format!("SHA256:{}", colons.join(":"))] {
            let bound: Bound = text.parse().unwrap();
            assert!(bound.is(&one) && !bound.is(&other));
            assert_eq!(bound.to_string().parse::<Bound>().unwrap(), bound);
        }
        for subject in ["cn=clinic,O=Example", "CN=clinic", "CN=clinic,O=Example,C=US", "O=Example,CN=clinic"] {
            assert!(!subject.parse::<Bound>().unwrap().is(&one), "{subject}");
        }
    }

    #[test]
    fn what_names_no_certificate_is_refused() {
        for text in ["", " ", "clinic", "=", "CN=", "sha256:", "sha256:00", "sha256:zz", "SHA256:", "md5:00"] {
            assert!(text.parse::<Bound>().is_err(), "{text:?}");
        }
        assert!(format!("sha256:{}g", "0".repeat(63)).parse::<Bound>().is_err());
        assert!(ClientCertificate::of(b"nothing").is_none());
    }
}

//! `Authorization` (RFC 9110, 11.6.2): a name and a password (RFC 7617), or a bearer token (RFC 6750).

use data_encoding::{BASE64, BASE64_NOPAD};

/// The credentials of a request.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Basic {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// A token.
    Bearer(String),
    /// Something else.
    Unknown,
}

impl Credentials {
    /// Reads the value of the header.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let Some((scheme, rest)) = std::str::from_utf8(value).ok().and_then(|text| text.trim().split_once(' ')) else {
            return Self::Unknown;
        };
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => basic(rest.trim()).unwrap_or(Self::Unknown),
            "bearer" => Self::Bearer(rest.trim().to_owned()),
            _ => Self::Unknown,
        }
    }
}

fn basic(text: &str) -> Option<Credentials> {
    let bytes = BASE64.decode(text.as_bytes()).or_else(|_| BASE64_NOPAD.decode(text.as_bytes())).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some(Credentials::Basic { name: name.to_owned(), password: password.to_owned() })
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither a password nor a token gets into a log.
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
            Self::Unknown => "Unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_first_colon() {
        let of = |name: &str, password: &str| Credentials::Basic { name: name.into(), password: password.into() };
        assert_eq!(Credentials::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), of("Aladdin", "open sesame"));
        assert_eq!(Credentials::parse(b"basic  YTpiOmM="), of("a", "b:c"));
        assert_eq!(Credentials::parse(b"Basic YTpiOmM"), of("a", "b:c"), "without padding");
        assert_eq!(Credentials::parse(b"Bearer abc.def"), Credentials::Bearer("abc.def".into()));
        for bad in ["", "Basic", "Basic ", "Basic !!!!", "Basic YWJj", "Digest username=a", "Basic YTpiOmM= x"] {
            assert_eq!(Credentials::parse(bad.as_bytes()), Credentials::Unknown, "{bad}");
        }
        assert_eq!(format!("{:?}", of("a", "secret")), "Basic");
    }
}

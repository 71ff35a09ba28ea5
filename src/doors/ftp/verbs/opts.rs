//! Settings of the session: OPTS, LANG, HOST.
//!
//! Names are UTF-8 whatever is set (RFC 2640); clients that switch it off are told that it stays
//! on.

use crate::doors::ftp::{client::Client, reply::Reply};

impl Client {
    /// OPTS (RFC 2389, 4).
    pub(in crate::doors::ftp) fn opts(&mut self, argument: &str) -> Reply {
        let mut words = argument.split_ascii_whitespace();
        let (what, value) = (words.next().unwrap_or_default().to_ascii_uppercase(), words.next());
        match what.as_str() {
            "UTF8" | "UTF-8" => match value.is_none_or(|value| value.eq_ignore_ascii_case("on")) {
                true => Reply::new(200, "UTF-8 is always on"),
                false => Reply::new(504, "UTF-8 is always on"),
            },
            "HASH" => self.opts_hash(value),
            "MLST" => Reply::new(200, "MLST OPTS type;size;modify;"),
            _ => Reply::new(501, "Unknown option"),
        }
    }

    fn opts_hash(&mut self, algorithm: Option<&str>) -> Reply {
        match algorithm.map(str::parse) {
            Some(Err(())) => return Reply::new(501, "Unknown algorithm"),
            Some(Ok(algorithm)) => self.hash = algorithm,
            None => {}
        }
        Reply::new(200, self.hash.to_string())
    }
}

/// HOST (RFC 7151), before the login.
pub(in crate::doors::ftp) fn host(name: &str) -> Reply {
    match name {
        "" => Reply::new(501, "HOST needs a name"),
        _ => Reply::new(220, "This server is the same at every name"),
    }
}

/// LANG (RFC 2640, 4.1).
pub(in crate::doors::ftp) fn language(argument: &str) -> Reply {
    match argument.to_ascii_uppercase().as_str() {
        "" | "EN" | "EN-US" => Reply::new(200, "English"),
        _ => Reply::new(504, "Only English is spoken"),
    }
}

//! Parameters of transfers and replies: REST, ALLO, TYPE, MODE, STRU, OPTS, LANG, HOST.

use crate::doors::ftp::{client::Client, logged_in::LoggedIn, reply::Reply};

impl Client {
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

impl LoggedIn<'_> {
    pub(in crate::doors::ftp) fn rest(&mut self, argument: &str) -> Reply {
        match argument.parse::<u64>() {
            Ok(start) => {
                self.next.start = start;
                Reply::new(350, format!("The next transfer begins at byte {start}"))
            }
            Err(_) => {
                self.next.start = 0;
                Reply::new(501, "REST needs a number")
            }
        }
    }

    pub(in crate::doors::ftp) fn allo(&mut self, argument: &str) -> Reply {
        match argument.split(' ').next().and_then(|size| size.parse::<u64>().ok()) {
            Some(size) => {
                self.next.declared = Some(size);
                Reply::new(200, format!("{size} bytes are expected"))
            }
            None => Reply::new(501, "ALLO needs a number"),
        }
    }
}

pub(in crate::doors::ftp) fn host(name: &str) -> Reply {
    match name {
        "" => Reply::new(501, "HOST needs a name"),
        _ => Reply::new(220, "This server is the same at every name"),
    }
}

pub(in crate::doors::ftp) fn transfer_type(argument: &str) -> Reply {
    match argument.to_ascii_uppercase().as_str() {
        "I" | "L 8" | "L8" => Reply::new(200, "Bytes are moved as they are"),
        // Whatever is kept is what was sent: hashes and sizes would not agree otherwise.
        "A" | "A N" => Reply::new(200, "Bytes are moved as they are, also in ASCII"),
        "" => Reply::new(501, "TYPE needs a type"),
        _ => Reply::new(504, "Only types I and A are served"),
    }
}

pub(in crate::doors::ftp) fn mode(argument: &str) -> Reply {
    one_of(argument, "S", "BC", "Only stream mode is served")
}

pub(in crate::doors::ftp) fn structure(argument: &str) -> Reply {
    one_of(argument, "F", "RP", "Only file structure is served")
}

pub(in crate::doors::ftp) fn language(argument: &str) -> Reply {
    match argument.to_ascii_uppercase().as_str() {
        "" | "EN" | "EN-US" => Reply::new(200, "English"),
        _ => Reply::new(504, "Only English is spoken"),
    }
}

fn one_of(argument: &str, served: &str, known: &str, why: &str) -> Reply {
    match argument.to_ascii_uppercase() {
        given if given == served => Reply::new(200, "Noted"),
        given if given.len() == 1 && known.contains(&given) => Reply::new(504, why),
        _ => Reply::new(501, why),
    }
}

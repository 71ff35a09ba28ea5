//! Parameters of transfers and replies: REST, ALLO, TYPE, MODE, STRU, OPTS, LANG, HOST.

use crate::doors::ftp::{reply::Reply, session::Session};

impl Session {
    pub(in crate::doors::ftp) fn opts(&mut self, argument: &str) -> Reply {
        let mut words = argument.split_ascii_whitespace();
        let (what, value) = (words.next().unwrap_or_default().to_ascii_uppercase(), words.next());
        match (what.as_str(), value) {
            ("UTF8" | "UTF-8", None) => Reply::new(200, "UTF-8 is always on"),
            ("UTF8" | "UTF-8", Some(value)) if value.eq_ignore_ascii_case("on") => {
                Reply::new(200, "UTF-8 is always on")
            }
            ("UTF8" | "UTF-8", Some(_)) => Reply::new(504, "UTF-8 is always on"),
            ("HASH", None) => Reply::new(200, self.hash.to_string()),
            ("HASH", Some(name)) => match name.parse() {
                Ok(algorithm) => {
                    self.hash = algorithm;
                    Reply::new(200, algorithm.to_string())
                }
                Err(()) => Reply::new(501, "Unknown algorithm"),
            },
            ("MLST", _) => Reply::new(200, "MLST OPTS type;size;modify;"),
            _ => Reply::new(501, "Unknown option"),
        }
    }

    pub(in crate::doors::ftp) fn rest(&mut self, argument: &str) -> Reply {
        match argument.parse::<u64>() {
            Ok(start) => {
                self.start = start;
                Reply::new(350, format!("The next transfer begins at byte {start}"))
            }
            Err(_) => {
                self.start = 0;
                Reply::new(501, "REST needs a number")
            }
        }
    }

    pub(in crate::doors::ftp) fn allo(&mut self, argument: &str) -> Reply {
        match argument.split(' ').next().and_then(|size| size.parse::<u64>().ok()) {
            Some(size) => {
                self.declared = Some(size);
                Reply::new(200, format!("{size} bytes are expected"))
            }
            None => Reply::new(501, "ALLO needs a number"),
        }
    }

    pub(in crate::doors::ftp) fn host(&self, name: &str) -> Reply {
        match name {
            _ if self.login.is_some() => Reply::new(503, "HOST comes before the login"),
            "" => Reply::new(501, "HOST needs a name"),
            _ => Reply::new(220, "This server is the same at every name"),
        }
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

//! The form of what is transferred: TYPE, MODE, STRU. There is one.
//!
//! Bytes are kept as they come. TYPE A is accepted because clients begin with it, and changes
//! nothing (RFC 959, 3.1.1.1 would have line ends translated).

use crate::doors::ftp::reply::Reply;

/// TYPE (RFC 959, 3.1.1).
pub(in crate::doors::ftp) fn transfer_type(argument: &str) -> Reply {
    match argument.to_ascii_uppercase().as_str() {
        "I" | "L 8" | "L8" => Reply::new(200, "Bytes are moved as they are"),
        // Whatever is kept is what was sent: hashes and sizes would not agree otherwise.
        "A" | "A N" => Reply::new(200, "Bytes are moved as they are, also in ASCII"),
        "" => Reply::new(501, "TYPE needs a type"),
        _ => Reply::new(504, "Only types I and A are served"),
    }
}

/// MODE (RFC 959, 3.4).
pub(in crate::doors::ftp) fn mode(argument: &str) -> Reply {
    one_of(argument, "S", "BC", "Only stream mode is served")
}

/// STRU (RFC 959, 3.1.2).
pub(in crate::doors::ftp) fn structure(argument: &str) -> Reply {
    one_of(argument, "F", "RP", "Only file structure is served")
}

fn one_of(argument: &str, served: &str, known: &str, why: &str) -> Reply {
    match argument.to_ascii_uppercase() {
        given if given == served => Reply::new(200, "Noted"),
        given if given.len() == 1 && known.contains(&given) => Reply::new(504, why),
        _ => Reply::new(501, why),
    }
}

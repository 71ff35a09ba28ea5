//! A command line, parsed: the verb and what stands behind it.
//!
//! Parsing knows no state and refuses nothing: an argument that makes no sense is refused by the
//! verb, in words that say why. Verbs are case-insensitive (RFC 959, 5.3).
//!
//! A new verb needs a variant of [`Command`], a line in one of the `of_*` functions, and a look at
//! [`needs_name`], [`Command::keeps_position`] and `confirmation::Sign::of`, which have a default
//! for all that they do not name.

use super::{digest::Algorithm, listing::Format, paths::without_options};

/// A command of a client. Paths are as the client gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// USER, with the name.
    User(&'a str),
    /// PASS, with the password.
    Pass(&'a str),
    Acct,
    /// AUTH, with the mechanism.
    Auth(&'a str),
    Pbsz(&'a str),
    Prot(&'a str),
    Ccc,
    Feat,
    Help,
    Syst,
    Noop,
    Opts(&'a str),
    Clnt,
    Lang(&'a str),
    Host(&'a str),
    Quit,
    Stor(&'a str),
    Appe(&'a str),
    Stou,
    Retr(&'a str),
    /// LIST, NLST or MLSD of a path.
    List(Format, &'a str),
    Abor,
    Pasv,
    Epsv(&'a str),
    Port(&'a str),
    Eprt(&'a str),
    Rest(&'a str),
    Allo(&'a str),
    Type(&'a str),
    Mode(&'a str),
    Stru(&'a str),
    Cwd(&'a str),
    Pwd,
    Mkd(&'a str),
    Rmd(&'a str),
    Dele(&'a str),
    Rnfr(&'a str),
    Rnto(&'a str),
    Size(&'a str),
    Mdtm(&'a str),
    Mlst(&'a str),
    /// MFMT, with the time and the path.
    Mfmt(&'a str),
    /// STAT of the session.
    Stat,
    /// STAT of a path.
    StatOf(&'a str),
    /// HASH, with the algorithm that OPTS has chosen.
    Hash(&'a str),
    /// XSHA256 and its like.
    Digest(Algorithm, &'a str),
    Site(&'a str),
    /// REIN and SMNT.
    NotServed,
    /// A verb without the name that it needs.
    Nameless(String),
    Unknown,
}

impl<'a> Command<'a> {
    /// Parses a line. Options of `ls` are taken out of LIST, NLST and STAT.
    /// The argument is everything after the first space, also further spaces: names may begin with
    /// one.
    pub(super) fn parse(line: &'a str) -> Self {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        // The verb alone: an argument keeps its letters.
        let verb = verb.to_ascii_uppercase();
        // Before the verb is looked up: the reply is the same for all of them.
        if argument.is_empty() && needs_name(&verb) {
            return Self::Nameless(verb);
        }
        let parsed = Self::of_transfer(&verb, argument)
            // The order does not matter: no verb is in two of them.
            .or_else(|| Self::of_names(&verb, argument))
            .or_else(|| Self::of_session(&verb, argument))
            .or_else(|| Self::of_digest(&verb, argument));
        parsed.unwrap_or(Self::Unknown)
    }

    /// Transfers and their parameters.
    fn of_transfer(verb: &str, argument: &'a str) -> Option<Self> {
        Some(match verb {
            "STOR" => Self::Stor(argument),
            "APPE" => Self::Appe(argument),
            "STOU" => Self::Stou,
            "RETR" => Self::Retr(argument),
            "LIST" => Self::List(Format::List, without_options(argument)),
            "NLST" => Self::List(Format::Nlst, without_options(argument)),
            "MLSD" => Self::List(Format::Mlsd, argument),
            "ABOR" => Self::Abor,
            "PASV" => Self::Pasv,
            "EPSV" => Self::Epsv(argument),
            "PORT" => Self::Port(argument),
            "EPRT" => Self::Eprt(argument),
            "REST" => Self::Rest(argument),
            "ALLO" => Self::Allo(argument),
            "TYPE" => Self::Type(argument),
            "MODE" => Self::Mode(argument),
            "STRU" => Self::Stru(argument),
            _ => return None,
        })
    }

    /// Names, and what is known of them.
    /// `X...` are the verbs of RFC 775, which RFC 1123, 4.1.3.1 asks servers to know.
    fn of_names(verb: &str, argument: &'a str) -> Option<Self> {
        Some(match verb {
            "CWD" | "XCWD" => Self::Cwd(argument),
            // RFC 959, 4.1.1: a special case of CWD.
            "CDUP" | "XCUP" => Self::Cwd(".."),
            "PWD" | "XPWD" => Self::Pwd,
            "MKD" | "XMKD" => Self::Mkd(argument),
            "RMD" | "XRMD" => Self::Rmd(argument),
            "DELE" => Self::Dele(argument),
            "RNFR" => Self::Rnfr(argument),
            "RNTO" => Self::Rnto(argument),
            "SIZE" => Self::Size(argument),
            "MDTM" => Self::Mdtm(argument),
            "MLST" => Self::Mlst(argument),
            "MFMT" => Self::Mfmt(argument),
            // Two commands in one verb (RFC 959, 4.1.3).
            "STAT" if argument.is_empty() => Self::Stat,
            "STAT" => Self::StatOf(without_options(argument)),
            _ => return None,
        })
    }

    /// The login, protection, and the session as a whole.
    /// AUTH, PBSZ, PROT and CCC: RFC 4217 and 2228; FEAT and OPTS: RFC 2389; LANG: RFC 2640; HOST:
    /// RFC 7151; CLNT is in no RFC.
    fn of_session(verb: &str, argument: &'a str) -> Option<Self> {
        Some(match verb {
            "USER" => Self::User(argument),
            "PASS" => Self::Pass(argument),
            "ACCT" => Self::Acct,
            "AUTH" => Self::Auth(argument),
            "PBSZ" => Self::Pbsz(argument),
            "PROT" => Self::Prot(argument),
            "CCC" => Self::Ccc,
            "FEAT" => Self::Feat,
            "HELP" => Self::Help,
            "SYST" => Self::Syst,
            "NOOP" => Self::Noop,
            "OPTS" => Self::Opts(argument),
            "CLNT" => Self::Clnt,
            "LANG" => Self::Lang(argument),
            "HOST" => Self::Host(argument),
            "SITE" => Self::Site(argument),
            "QUIT" => Self::Quit,
            "REIN" | "SMNT" => Self::NotServed,
            _ => return None,
        })
    }

    /// Digests of a file: HASH (draft-bryan-ftpext-hash) and the older verbs that clients know.
    fn of_digest(verb: &str, argument: &'a str) -> Option<Self> {
        let algorithm = match verb {
            "HASH" => return Some(Self::Hash(argument)),
            "XSHA256" => Algorithm::Sha256,
            "XSHA512" => Algorithm::Sha512,
            "XSHA1" => Algorithm::Sha1,
            "XMD5" => Algorithm::Md5,
            "XCRC" => Algorithm::Crc32,
            _ => return None,
        };
        Some(Self::Digest(algorithm, argument))
    }

    /// Returns whether REST's position and ALLO's size outlive it: they are for the transfer that is named next, and
    /// looking around between is no harm.
    pub(super) fn keeps_position(&self) -> bool {
        matches!(
            self,
            Self::Pasv
                | Self::Epsv(_)
                | Self::Port(_)
                | Self::Eprt(_)
                | Self::Type(_)
                | Self::Allo(_)
                | Self::Rest(_)
                | Self::Noop
                | Self::Stat
                | Self::StatOf(_)
                | Self::Size(_)
                | Self::Mdtm(_)
                | Self::Prot(_)
                | Self::Pbsz(_) // One that was refused for want of a name has asked for nothing either.
        ) || matches!(self, Self::Nameless(verb) if verb == "SIZE" || verb == "MDTM")
    }
}

/// Returns true for a verb that is nothing without a name: it is refused here with 501, once for
/// all.
fn needs_name(verb: &str) -> bool {
    const NEED: [&str; 12] =
        ["STOR", "APPE", "RETR", "MKD", "XMKD", "RMD", "XRMD", "DELE", "RNFR", "RNTO", "SIZE", "MDTM"];
    NEED.contains(&verb)
}

/// Returns whether a browser sends this, which can be made to send commands in a form's body: such a request begins so.
pub(super) fn speaks_http(line: &str) -> bool {
    const METHODS: [&str; 8] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH"];
    let Some((verb, argument)) = line.split_once(' ') else { return false };
    METHODS.iter().any(|method| verb.eq_ignore_ascii_case(method)) && argument.contains("HTTP/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_and_old_verbs_are_known() {
        for (line, command) in [
            ("stor a b", Command::Stor("a b")),
            ("STOR  a", Command::Stor(" a")),
            ("XCUP", Command::Cwd("..")),
            ("XMKD in", Command::Mkd("in")),
            ("LIST -la in", Command::List(Format::List, "in")),
            ("MLSD -la", Command::List(Format::Mlsd, "-la")),
            ("STAT", Command::Stat),
            ("STAT a", Command::StatOf("a")),
            ("xcrc a", Command::Digest(Algorithm::Crc32, "a")),
            ("STOR", Command::Nameless("STOR".to_owned())),
            ("xmkd ", Command::Nameless("XMKD".to_owned())),
            ("STORE a", Command::Unknown),
            ("", Command::Unknown),
        ] {
            assert_eq!(Command::parse(line), command, "{line:?}");
        }
    }

    #[test]
    fn a_browser_is_known_by_its_request() {
        assert!(speaks_http("POST / HTTP/1.1"));
        assert!(!speaks_http("POST") && !speaks_http("STOR HTTP/"));
    }
}

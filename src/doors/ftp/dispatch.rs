//! What each command does. Those of files are asked of the inner server, with absolute paths.

use std::sync::Arc;

use chrono::NaiveDateTime;
use unftp_core::{
    auth::DefaultUser,
    storage::{Metadata, StorageBackend},
};
use unftp_sbe_fs::Meta;

use crate::partners::Partner;

use super::{
    data,
    digest::{self, Algorithm},
    lines::Line,
    login::{Failed, Login, open, verify},
    moving::Store,
    offers::Passive,
    paths::{changed, looked_at, quoted, without_options},
    reply::Reply,
    session::{Flow, Session},
    speech::{self, Abilities},
};

/// Commands that a connection may send before its login.
const BEFORE_LOGIN: u32 = 32;
impl Session {
    pub(super) async fn heed(&mut self, line: Line) -> Flow {
        let line = match line {
            Line::Command(line) => line,
            Line::TooLong => return self.bad(Reply::new(500, "Line is too long")).await,
            Line::NotText => return self.bad(Reply::new(501, "Line is not valid UTF-8 text")).await,
            Line::Flood => return self.goodbye("Line is far too long").await,
        };
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let verb = verb.to_ascii_uppercase();
        if let Some(login) = self.login.clone() {
            login.ticket.touch();
            return Box::pin(self.of_partner(&verb, argument, login)).await;
        }
        if speaks_http(&verb, argument) {
            return self.goodbye("This is an FTP server").await;
        }
        self.before_login += 1;
        if self.before_login > BEFORE_LOGIN {
            return self.goodbye("Too many commands before a login").await;
        }
        match verb.as_str() {
            "USER" => self.user(argument).await,
            "PASS" => Box::pin(self.pass(argument)).await,
            _ => match self.of_anyone(&verb, argument).await {
                Some(flow) => flow,
                None => self.say(Reply::new(530, "Log in with USER and PASS first")).await,
            },
        }
    }

    async fn bad(&mut self, reply: Reply) -> Flow {
        if self.login.is_none() {
            self.before_login += 1;
            if self.before_login > BEFORE_LOGIN {
                return self.goodbye("Too many commands before a login").await;
            }
        }
        self.say(reply).await
    }

    async fn user(&mut self, name: &str) -> Flow {
        if self.tls_is_required() && !self.is_secure() {
            return self.say(Reply::new(534, "TLS is required: send AUTH TLS first")).await;
        }
        if name.is_empty() {
            return self.say(Reply::new(501, "USER needs a name")).await;
        }
        let house = self.house.clone();
        let certified = self.certificate.as_ref();
        if let Some(partner) =
            certified.and_then(|shown| house.partners.verify_certificate(shown, name, self.link.peer.ip()))
        {
            return self.open(partner, 232).await;
        }
        self.user = Some(name.to_owned());
        self.say(Reply::new(331, "Password required")).await
    }

    async fn pass(&mut self, password: &str) -> Flow {
        let Some(name) = self.user.take() else {
            return self.say(Reply::new(503, "Send USER first")).await;
        };
        let house = self.house.clone();
        let shown = self.certificate.as_ref();
        match verify(&name, password, shown, self.link.peer, &house.partners).await {
            Ok(partner) => self.open(partner, 230).await,
            Err(Failed::Told(why)) => self.say(Reply::new(421, why)).await.and_end(),
            Err(Failed::Wrong) => {
                self.failed_logins += 1;
                // One reply for all reasons, so that it does not tell whether the name exists.
                if self.say(Reply::new(530, "Login incorrect")).await == Flow::End {
                    return Flow::End;
                }
                match self.failed_logins > house.partners.limits().max_failed_logins {
                    true => self.goodbye("Too many failed logins").await,
                    false => Flow::Continue,
                }
            }
        }
    }

    async fn open(&mut self, partner: Partner, code: u16) -> Flow {
        let house = self.house.clone();
        match open(partner, &self.link, &house.partners, &house.ingest, &house.options) {
            Ok(login) => {
                let notice = house.notice().map(|notice| format!("; {notice}")).unwrap_or_default();
                self.login = Some(Arc::new(login));
                self.say(Reply::new(code, format!("Logged in{notice}"))).await
            }
            Err(why) => self.say(Reply::new(421, why)).await.and_end(),
        }
    }

    /// Commands that need no login.
    async fn of_anyone(&mut self, verb: &str, argument: &str) -> Option<Flow> {
        let reply = match verb {
            "AUTH" => return Some(self.auth(argument).await),
            "PBSZ" => self.pbsz(argument),
            "PROT" => self.prot(argument),
            "CCC" => Reply::new(533, "The control connection stays protected"),
            "FEAT" => speech::feat(&self.abilities()),
            "HELP" => speech::help(&self.abilities()),
            "SYST" => Reply::new(215, "UNIX Type: L8"),
            "NOOP" => Reply::new(200, "Here"),
            "OPTS" => self.opts(argument),
            "CLNT" => Reply::new(200, "Noted"),
            "LANG" => match argument.to_ascii_uppercase().as_str() {
                "" | "EN" | "EN-US" => Reply::new(200, "English"),
                _ => Reply::new(504, "Only English is spoken"),
            },
            "HOST" if self.login.is_some() => Reply::new(503, "HOST comes before the login"),
            "HOST" if argument.is_empty() => Reply::new(501, "HOST needs a name"),
            "HOST" => Reply::new(220, "There is one house at every name"),
            "QUIT" => {
                return Some(self.say(Reply::new(221, "Goodbye")).await.and_end());
            }
            _ => return None,
        };
        Some(self.say(reply).await)
    }

    async fn of_partner(&mut self, verb: &str, argument: &str, login: Arc<Login>) -> Flow {
        // A position or a size is for the transfer that is named next. Looking around between is no harm.
        let keeps = matches!(
            verb,
            "PASV"
                | "EPSV"
                | "PORT"
                | "EPRT"
                | "TYPE"
                | "ALLO"
                | "REST"
                | "NOOP"
                | "STAT"
                | "SIZE"
                | "MDTM"
                | "PROT"
                | "PBSZ"
        );
        let (start, declared) = (self.start, self.declared);
        if !keeps {
            (self.start, self.declared) = (0, None);
        }
        // RNTO follows RNFR at once.
        let from = if verb == "NOOP" { None } else { self.rename_from.take() };
        let needs = |what: &str| Reply::new(501, format!("{verb} needs {what}"));
        let reply = match verb {
            "STOR" | "APPE" if argument.is_empty() => needs("a name"),
            "STOR" => {
                return self.store(Store { argument, start, declared, append: false, unique: false }, login).await;
            }
            "APPE" => {
                return self.store(Store { argument, start: 0, declared, append: true, unique: false }, login).await;
            }
            "STOU" => {
                return self
                    .store(Store { argument: "", start: 0, declared, append: false, unique: true }, login)
                    .await;
            }
            "RETR" if argument.is_empty() => needs("a name"),
            "RETR" => return self.retrieve(&looked_at(&self.directory, argument), start, login).await,
            "LIST" | "NLST" => {
                let path = looked_at(&self.directory, without_options(argument));
                return self.list(&format!("{verb} {path}"), login).await;
            }
            "MLSD" => return self.list(&format!("MLSD {}", looked_at(&self.directory, argument)), login).await,
            "PASV" => return self.passive(Passive::Pasv, login).await,
            "EPSV" => return self.epsv(argument, login).await,
            "PORT" => self.active(data::parse_port(argument)),
            "EPRT" => self.active(data::parse_eprt(argument)),
            "REST" => self.rest(argument),
            "ALLO" => self.allo(argument),
            "ABOR" => {
                self.offer = None;
                Reply::new(226, "Nothing to abort")
            }
            "CWD" | "XCWD" => self.enter(looked_at(&self.directory, argument), &login).await,
            "CDUP" | "XCUP" => self.enter(looked_at(&self.directory, ".."), &login).await,
            "PWD" | "XPWD" => Reply::new(257, format!("{} is the current directory", quoted(&self.directory))),
            "MKD" | "XMKD" | "RMD" | "XRMD" | "DELE" | "RNFR" | "RNTO" if argument.is_empty() => needs("a name"),
            "MKD" | "XMKD" => match changed(&self.directory, argument) {
                Ok(path) => match self.ask(&format!("MKD {path}"), &login).await {
                    made if made.code == 257 => Reply::new(257, format!("{} created", quoted(&path))),
                    other => other,
                },
                Err(reply) => reply,
            },
            "RMD" | "XRMD" => self.change("RMD", argument, &login).await,
            "DELE" => self.change("DELE", argument, &login).await,
            "RNFR" => match changed(&self.directory, argument) {
                Ok(path) => {
                    let reply = self.ask(&format!("RNFR {path}"), &login).await;
                    if reply.code == 350 {
                        self.rename_from = Some(path);
                    }
                    reply
                }
                Err(reply) => reply,
            },
            "RNTO" => match (from, changed(&self.directory, argument)) {
                (None, _) => Reply::new(503, "Send RNFR first"),
                (_, Err(reply)) => reply,
                (Some(from), Ok(to)) => match self.ask(&format!("RNFR {from}"), &login).await {
                    known if known.code == 350 => self.ask(&format!("RNTO {to}"), &login).await,
                    unknown => unknown,
                },
            },
            "SIZE" | "MDTM" if argument.is_empty() => needs("a name"),
            "SIZE" => {
                let path = looked_at(&self.directory, argument);
                // A client that goes on with an upload asks so where.
                match login.ingest.resumable(&login.session, &path).await {
                    Ok(Some(bytes)) => Reply::new(213, bytes.to_string()),
                    _ if is_directory(&login, &path).await => Reply::new(550, "A directory has no size"),
                    _ => self.ask(&format!("SIZE {path}"), &login).await,
                }
            }
            "MDTM" | "MLST" => self.ask(&format!("{verb} {}", looked_at(&self.directory, argument)), &login).await,
            "MFMT" => self.set_time(argument, &login).await,
            "STAT" if argument.is_empty() => self.status(&login),
            "STAT" => {
                let path = looked_at(&self.directory, without_options(argument));
                self.ask(&format!("STAT {path}"), &login).await
            }
            "HASH" => self.hash(argument, &login).await,
            "XSHA256" => self.digest(argument, Algorithm::Sha256, &login).await,
            "XSHA512" => self.digest(argument, Algorithm::Sha512, &login).await,
            "XSHA1" => self.digest(argument, Algorithm::Sha1, &login).await,
            "XMD5" => self.digest(argument, Algorithm::Md5, &login).await,
            "XCRC" => self.digest(argument, Algorithm::Crc32, &login).await,
            "TYPE" => transfer_type(argument),
            "MODE" => one_of(argument, "S", "BC", "Only stream mode is served"),
            "STRU" => one_of(argument, "F", "RP", "Only file structure is served"),
            "SITE" => self.site(argument, &login).await,
            "ACCT" => Reply::new(202, "Not needed"),
            // Some send it always.
            "PASS" if self.user.is_none() && self.certificate.is_some() => Reply::new(202, "Not needed"),
            "USER" | "PASS" => Reply::new(503, "You are logged in; connect again to be another"),
            "REIN" | "SMNT" => Reply::new(502, "Not served"),
            _ => match self.of_anyone(verb, argument).await {
                Some(flow) => return flow,
                None => Reply::new(500, "Unknown command"),
            },
        };
        self.say(reply).await
    }

    fn opts(&mut self, argument: &str) -> Reply {
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

    fn rest(&mut self, argument: &str) -> Reply {
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

    fn allo(&mut self, argument: &str) -> Reply {
        match argument.split(' ').next().and_then(|size| size.parse::<u64>().ok()) {
            Some(size) => {
                self.declared = Some(size);
                Reply::new(200, format!("{size} bytes are expected"))
            }
            None => Reply::new(501, "ALLO needs a number"),
        }
    }

    async fn enter(&mut self, path: String, login: &Arc<Login>) -> Reply {
        let reply = self.ask(&format!("CWD {path}"), login).await;
        if reply.code != 250 {
            return reply;
        }
        self.directory = path;
        Reply::new(250, format!("{} is the current directory", quoted(&self.directory)))
    }

    async fn change(&mut self, verb: &str, argument: &str, login: &Arc<Login>) -> Reply {
        match changed(&self.directory, argument) {
            Ok(path) => self.ask(&format!("{verb} {path}"), login).await,
            Err(reply) => reply,
        }
    }

    /// MFMT (draft-somers-ftp-mfxx): the time that a file shows. What is known of the accepted bytes stays.
    async fn set_time(&mut self, argument: &str, login: &Arc<Login>) -> Reply {
        let Some((time, name)) = argument.split_once(' ').filter(|(_, name)| !name.is_empty()) else {
            return Reply::new(501, "MFMT needs a time and a name");
        };
        let Ok(at) = NaiveDateTime::parse_from_str(time, "%Y%m%d%H%M%S%.f") else {
            return Reply::new(501, "MFMT needs a time as YYYYMMDDHHMMSS");
        };
        match changed(&self.directory, name) {
            Ok(path) => match login.ingest.set_time(&login.session, &path, at.and_utc()).await {
                Ok(()) => Reply::new(213, format!("Modify={}; {path}", at.format("%Y%m%d%H%M%S"))),
                Err(refusal) => Reply::from(&refusal),
            },
            Err(reply) => reply,
        }
    }

    async fn hash(&mut self, argument: &str, login: &Arc<Login>) -> Reply {
        let path = looked_at(&self.directory, argument);
        match self.digest_of(&path, self.hash, login).await {
            Ok((hex, bytes)) => {
                Reply::new(213, format!("{} 0-{} {hex} {argument}", self.hash, bytes.saturating_sub(1)))
            }
            Err(reply) => reply,
        }
    }

    async fn digest(&mut self, argument: &str, algorithm: Algorithm, login: &Arc<Login>) -> Reply {
        // Some clients put the name in quotes, as it may be followed by a range.
        let name = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(argument);
        if name.is_empty() {
            return Reply::new(501, "A name is needed");
        }
        let path = looked_at(&self.directory, name);
        match self.digest_of(&path, algorithm, login).await {
            Ok((hex, _)) => Reply::new(250, hex.to_ascii_uppercase()),
            Err(reply) => reply,
        }
    }

    /// Reads the whole file, which may take its time.
    async fn digest_of(&mut self, path: &str, algorithm: Algorithm, login: &Login) -> Result<(String, u64), Reply> {
        login.ticket.doing(format!("{algorithm} {path}"));
        let digest = self.while_present(digest::of(&login.view, path, algorithm)).await;
        login.ticket.doing("");
        digest.ok_or_else(Reply::interrupted)?.map_err(|refusal| Reply::from(&refusal))
    }

    async fn site(&mut self, argument: &str, login: &Arc<Login>) -> Reply {
        match argument.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "HELP" | "" => speech::site_help(),
            "STATUS" => self.standing(login).await,
            _ => Reply::new(504, "Unknown SITE command; try SITE HELP"),
        }
    }

    /// The partner's own files, in words.
    async fn standing(&self, login: &Arc<Login>) -> Reply {
        let counts = match login.ingest.standing_of(&login.session).await {
            Ok(counts) => counts,
            Err(refusal) => return Reply::from(&refusal),
        };
        let mut lines = vec![format!("Files of {}:", login.session.partner)];
        lines.extend(counts.iter().map(|(state, count)| format!("{state}: {count}")));
        if counts.is_empty() {
            lines.push("none".to_owned());
        }
        Reply::lines(211, lines, self.house.notice().unwrap_or_else(|| "Files are processed as they come".to_owned()))
    }

    fn status(&self, login: &Arc<Login>) -> Reply {
        let secure = |on: bool| if on { "TLS" } else { "clear" };
        let lines = vec![
            "Forebay".to_owned(),
            format!("Logged in as {} from {}", login.session.partner, self.link.peer.ip()),
            format!("Control connection: {}; data connections: {}", secure(self.is_secure()), secure(self.protected)),
            format!("Directory: {}", self.directory),
        ];
        Reply::lines(211, lines, "No transfer is under way")
    }

    fn abilities(&self) -> Abilities {
        Abilities { tls: self.house.tls().is_some(), active: self.house.options.active, hash: self.hash }
    }
}

impl Flow {
    pub(super) fn and_end(self) -> Self {
        Self::End
    }
}

async fn is_directory(login: &Login, path: &str) -> bool {
    let there: Result<Meta, _> = login.view.metadata(&DefaultUser, path.to_owned()).await;
    there.is_ok_and(|there| there.is_dir())
}

/// Browsers can be made to send commands in a form's body; such a request begins like this.
fn speaks_http(verb: &str, argument: &str) -> bool {
    matches!(verb, "GET" | "POST" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "CONNECT" | "PATCH")
        && argument.contains("HTTP/")
}

fn transfer_type(argument: &str) -> Reply {
    match argument.to_ascii_uppercase().as_str() {
        "I" | "L 8" | "L8" => Reply::new(200, "Bytes are moved as they are"),
        // Whatever is kept is what was sent: hashes and sizes would not agree otherwise.
        "A" | "A N" => Reply::new(200, "Bytes are moved as they are, also in ASCII"),
        "" => Reply::new(501, "TYPE needs a type"),
        _ => Reply::new(504, "Only types I and A are served"),
    }
}

fn one_of(argument: &str, served: &str, known: &str, why: &str) -> Reply {
    match argument.to_ascii_uppercase() {
        given if given == served => Reply::new(200, "Noted"),
        given if given.len() == 1 && known.contains(&given) => Reply::new(504, why),
        _ => Reply::new(501, why),
    }
}

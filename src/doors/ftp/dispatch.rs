//! Commands, brought to what serves them.
//!
//! A command that needs no login is served by [`Client::any_time`] in every phase; all others only
//! by [`LoggedIn::dispatch`]. A new verb gets its arm in one of these two; a verb that opens a data
//! connection, needs what is used up by it, or has more than one reply goes into `dispatch`, all
//! others into `answer`.

use super::{
    client::Client,
    command::Command,
    logged_in::LoggedIn,
    reply::Reply,
    session::Flow,
    verbs::{feat, mode, opts, stor::Store},
};

impl Client {
    /// Answers a command that needs no login; None of any other.
    ///
    /// None of these touches a partner's files. Those that need the session (PBSZ, PROT, OPTS)
    /// change only how the connection itself is used.
    pub(super) async fn any_time(&mut self, command: &Command<'_>) -> Option<Flow> {
        let reply = match *command {
            Command::Quit => return Some(self.say(Reply::new(221, "Goodbye")).await.and_end()),
            Command::Pbsz(size) => self.pbsz(size),
            Command::Prot(level) => self.prot(level),
            // RFC 4217, 5 lets a server refuse it: all that comes after would be in the clear.
            Command::Ccc => Reply::new(533, "The control connection stays protected"),
            Command::Feat => feat::feat(&self.abilities()),
            Command::Help => feat::help(&self.abilities()),
            Command::Syst => Reply::new(215, "UNIX Type: L8"),
            Command::Noop => Reply::new(200, "Here"),
            Command::Opts(argument) => self.opts(argument),
            Command::Clnt => Reply::new(200, "Noted"),
            Command::Lang(language) => opts::language(language),
            Command::Host(name) => opts::host(name),
            _ => return None,
        };
        Some(self.say(reply).await)
    }
}

impl LoggedIn<'_> {
    /// Serves a command. What was said of the next transfer alone is used up, unless the command may stand between.
    pub(super) async fn dispatch(&mut self, command: Command<'_>) -> Flow {
        let next = self.next;
        // Before the command is served, whatever comes of it: REST and ALLO are for the next
        // transfer alone (RFC 959, 4.1.3; RFC 3659, 5.2).
        if !command.keeps_position() {
            self.next = Default::default();
        }
        // RNTO follows RNFR at once.
        let rename_from = if command == Command::Noop { None } else { self.rename_from.take() };
        match command {
            Command::Stor(name) => self.store(Store::At(name), next).await,
            Command::Appe(name) => self.store(Store::Append(name), next).await,
            Command::Stou => self.store(Store::Unique, next).await,
            Command::Retr(path) => self.retrieve(path, next.start).await,
            Command::List(format, path) => self.list(format, path).await,
            Command::Pasv => self.pasv().await,
            Command::Epsv(argument) => self.epsv(argument).await,
            Command::Rnto(path) => {
                let reply = self.rename_to(rename_from, path).await;
                self.client.say(reply).await
            }
            command => self.answer(command).await,
        }
    }

    /// Serves a command with one reply.
    async fn answer(&mut self, command: Command<'_>) -> Flow {
        let reply = match command {
            Command::Port(address) => self.port(address),
            Command::Eprt(address) => self.eprt(address),
            Command::Abor => self.abort_nothing(),
            Command::Rest(position) => self.rest(position),
            Command::Allo(size) => self.allo(size),
            Command::Type(argument) => mode::transfer_type(argument),
            Command::Mode(argument) => mode::mode(argument),
            Command::Stru(argument) => mode::structure(argument),
            Command::Cwd(path) => self.change_directory(path).await,
            Command::Pwd => self.current_directory(),
            Command::Mkd(path) => self.make_directory(path).await,
            Command::Rmd(path) => self.remove("RMD", path).await,
            Command::Dele(path) => self.remove("DELE", path).await,
            Command::Rnfr(path) => self.rename_from(path).await,
            Command::Size(path) => self.size(path).await,
            Command::Mdtm(path) => self.facts("MDTM", path).await,
            Command::Mlst(path) => self.facts("MLST", path).await,
            Command::Mfmt(argument) => self.set_time(argument).await,
            Command::Stat => self.status(),
            Command::StatOf(path) => self.status_of(path).await,
            Command::Hash(path) => self.hash(path).await,
            Command::Digest(algorithm, path) => self.digest(path, algorithm).await,
            Command::Site(argument) => self.site(argument).await,
            Command::Prot(level) => self.prot(level),
            Command::Auth(_) => self.auth(),
            // RFC 7151, 3: HOST comes before USER.
            Command::Host(_) => Reply::new(503, "HOST comes before the login"),
            Command::Acct => Reply::new(202, "Not needed"),
            // Some send it always.
            Command::Pass(_) if self.client.protection.certificate.is_some() => Reply::new(202, "Not needed"),
            Command::User(_) | Command::Pass(_) => Reply::new(503, "You are logged in; connect again to be another"),
            Command::NotServed => Reply::new(502, "Not served"),
            Command::Nameless(verb) => Reply::new(501, format!("{verb} needs a name")),
            command => match self.client.any_time(&command).await {
                Some(flow) => return flow,
                None => Reply::new(500, "Unknown command"),
            },
        };
        self.client.say(reply).await
    }

    /// ABOR without a transfer: closes the data port that was asked for, and replies 226 (RFC 959,
    /// 5.4).
    fn abort_nothing(&mut self) -> Reply {
        self.data_port.close();
        Reply::new(226, "Nothing to abort")
    }
}

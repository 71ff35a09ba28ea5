//! The client's side of a connection, as russh asks for it: logins go to `login`, channels that ask
//! for SFTP to `service`, and anything else is refused.
//!
//! russh parses SSH (RFC 4252 for logins, RFC 4254 for channels) and calls one method at a time, in
//! the task of the connection: whatever waits here holds up all channels of the client. So a
//! channel is served in a task of its own.
//!
//! # Trust
//! No shell, no command, no forwarding, no environment: what is not SFTP is answered with a failure
//! or a sentence. A channel counts from its opening, so a client that opens many and asks nothing
//! of them is bounded too.

use std::{collections::HashMap, sync::Arc};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty,
    keys::Certificate,
    server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};

use crate::{doors::core::Link, partners::Partner};

use super::{connection::Shared, context::SftpContext, login::rejected, service};

const NO_SHELL: &str = "This server takes files by SFTP only: no shell, no commands, no scp of the old kind.\r\n\
                        Use sftp, or scp without -O.\r\n";

/// A client, and what it has proved and opened so far.
pub(super) struct Client {
    pub(super) context: Arc<SftpContext>,
    pub(super) link: Arc<Link>,
    pub(super) shared: Arc<Shared>,
    /// Channels that nothing was asked of yet.
    channels: HashMap<ChannelId, Channel<Msg>>,
    /// The partner that has proved to have a key, and still has to give a password.
    pub(super) proved: Option<Partner>,
    pub(super) failed_logins: u32,
    /// The reason why a partner that has logged in cannot stay.
    pub(super) turned_away: Option<String>,
}

impl Client {
    /// A client that has proved and opened nothing.
    pub(super) fn new(context: Arc<SftpContext>, link: Arc<Link>, shared: Arc<Shared>) -> Self {
        let channels = HashMap::new();
        Self { context, link, shared, channels, proved: None, failed_logins: 0, turned_away: None }
    }

    /// Tells a client that wants a shell or a command that there is none, in words that `ssh` and
    /// `scp -O` print.
    fn no_shell(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&channel);
        session.channel_success(channel)?;
        session.extended_data(channel, 1, NO_SHELL)?;
        session.exit_status_request(channel, 1)?;
        session.eof(channel)?;
        session.close(channel)
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Ok(rejected())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(self.password(user, password).await)
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        Ok(self.key_offered(user, &offer))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(self.key(user, &key))
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, russh::Error> {
        Ok(self.certificate(user, certificate))
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok(self.context.banner())
    }

    /// A partner that cannot have a session is let in and told why: SSH has words for that only
    /// after the login.
    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        match &self.turned_away {
            Some(why) => session.disconnect(Disconnect::TooManyConnections, why, "en"),
            None => Ok(()),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let open = self.channels.len() as u32 + self.shared.channels();
        // Channels that nothing was asked of count as those that serve.
        if open >= self.context.options.max_channels || self.shared.login().is_none() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let (Some(login), "sftp", Some(channel)) = (self.shared.login(), name, self.channels.remove(&id)) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        // Counted before the task begins: the next request to open a channel sees it.
        let (login, serving) = (login.clone(), self.shared.serve());
        tokio::spawn(async move {
            service::serve(login, channel).await;
            drop(serving);
        });
        Ok(())
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.no_shell(channel, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.no_shell(channel, session)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        // It is told that there is no shell when it asks for one.
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn agent_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<bool, russh::Error> {
        session.channel_failure(channel)?;
        Ok(false)
    }
}

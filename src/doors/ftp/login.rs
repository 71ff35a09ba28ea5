//! Who is at the other end: libunftp's questions, answered by `partners`.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tracing::info;
use unftp_core::auth::{
    AuthenticationError, Authenticator, ChannelEncryptionState, Credentials, Principal, UserDetail, UserDetailError,
    UserDetailProvider,
};
use unftp_sbe_fs::Filesystem;

use crate::{
    ingest::{Ingest, Refusal, SessionInfo},
    partners::{Partners, SessionTicket},
};

use super::{line::Line, paths};

/// A partner who is logged in, as libunftp carries it.
#[derive(Clone, Debug)]
pub(super) struct User(pub(super) Arc<Login>);

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.session.partner.fmt(f)
    }
}

impl UserDetail for User {}

/// What a session is from its login on.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) session: SessionInfo,
    pub(super) ticket: SessionTicket,
    pub(super) line: Arc<Line>,
    pub(super) ingest: Arc<Ingest>,
    /// The partner's directory, for reading.
    pub(super) view: Filesystem,
    pub(super) settle: Duration,
    pub(super) stalled: Duration,
    working: Mutex<PathBuf>,
}

impl Login {
    /// The path below the login directory that libunftp's path means.
    pub(super) fn resolve(&self, path: &Path) -> Result<String, Refusal> {
        paths::resolve(&self.working.lock(), path)
    }

    /// libunftp's working directory is now this one.
    pub(super) fn entered(&self, directory: &Path) {
        *self.working.lock() = directory.to_owned();
    }
}

/// Asks `partners`, for one connection.
#[derive(Debug)]
pub(super) struct Gatekeeper {
    pub(super) line: Arc<Line>,
    pub(super) partners: Arc<Partners>,
    pub(super) ingest: Arc<Ingest>,
    pub(super) needs_tls: bool,
    pub(super) settle: Duration,
    pub(super) pending: Mutex<Option<Arc<Login>>>,
}

impl Gatekeeper {
    async fn login(&self, name: &str, creds: &Credentials) -> Result<Login, String> {
        if self.needs_tls && creds.command_channel_security == ChannelEncryptionState::Plaintext {
            return Err("TLS is required".to_owned());
        }
        let peer = self.line.peer;
        let password = creds.password.as_deref().unwrap_or_default();
        let partner = self.partners.verify(name, password, peer.ip()).await.map_err(|denied| denied.to_string())?;
        let ticket = self.partners.open_session(&partner.name, "ftp", peer).map_err(|denied| denied.to_string())?;
        let home = self.ingest.home(&partner.name).map_err(|refusal| refusal.to_string())?;
        let view = Filesystem::new(home).map_err(|error| format!("cannot open the login directory: {error}"))?;
        Ok(Login {
            session: SessionInfo { partner: partner.name, door: "ftp", peer, id: ticket.id() },
            ticket,
            line: self.line.clone(),
            ingest: self.ingest.clone(),
            view,
            settle: self.settle,
            stalled: self.partners.limits().stalled,
            working: Mutex::new(PathBuf::from("/")),
        })
    }
}

#[async_trait]
impl Authenticator for Gatekeeper {
    async fn authenticate(&self, username: &str, creds: &Credentials) -> Result<Principal, AuthenticationError> {
        match self.login(username, creds).await {
            Ok(login) => {
                info!(partner = %login.session.partner, peer = %self.line.peer, session = %login.session.id, "logged in");
                self.line.logged_in(login.session.partner.clone());
                *self.pending.lock() = Some(Arc::new(login));
                Ok(Principal { username: username.to_owned() })
            }
            Err(why) => {
                info!(peer = %self.line.peer, why, "login refused");
                self.line.login_failed(self.partners.limits());
                // One kind for all, so that the reply does not tell which it was.
                Err(AuthenticationError::BadPassword)
            }
        }
    }
}

#[async_trait]
impl UserDetailProvider for Gatekeeper {
    type User = User;

    async fn provide_user_detail(&self, _principal: &Principal) -> Result<User, UserDetailError> {
        let login = self.pending.lock().take();
        login.map(User).ok_or_else(|| UserDetailError::Generic("there was no login".to_owned()))
    }
}

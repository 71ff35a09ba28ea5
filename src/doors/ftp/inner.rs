//! libunftp, behind the guard: it serves the file commands on a loopback pair of its own.
//!
//! An inner session has no state that matters: every path it gets is absolute, and nobody but the guard knows the token
//! that it takes for a password. So it is opened when a command needs it, closed when it is idle, and dropped without a
//! word when a reply is odd, late or missing. Its address is a random one of 127/8, for both ends: libunftp serves a
//! data connection only to the address of the control connection.
//!
//! Bytes of files do not pass through it. For what a client fetches its data connection is empty and only triggers: the
//! guard hands the client's own over. For libunftp serves whoever connects to its data port first from the right
//! address, and any user of the machine can: who does sees nothing, and what it sends is not read.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use libunftp::{ServerBuilder, options::Binder};
use slog::Drain;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use unftp_core::auth::{
    AuthenticationError, Authenticator, Credentials, Principal, UserDetailError, UserDetailProvider,
};

use crate::doors::core::PartnerSession;

use super::{backend::FtpBackend, inner_state::InnerState, reply::Reply, user::FtpUser};

/// The time for a reply of the inner server. Nothing it does by itself takes long.
const PATIENCE: Duration = Duration::from_secs(20);
/// A data connection that nothing was asked of is not used after this long.
const FRESH: Duration = Duration::from_secs(60);
/// The longest reply: STAT of a folder.
const MOST_REPLY_BYTES: usize = 1 << 20;
const NAME: &str = "partner";

/// Logs in the guard, which alone knows the token.
#[derive(Debug)]
struct TokenLogin {
    token: String,
    user: FtpUser,
}

#[async_trait]
impl Authenticator for TokenLogin {
    async fn authenticate(&self, username: &str, creds: &Credentials) -> Result<Principal, AuthenticationError> {
        // It is random and lives for one session, so how long comparing takes tells nothing in time.
        match creds.password.as_deref() {
            Some(token) if token == self.token => Ok(Principal { username: username.to_owned() }),
            _ => Err(AuthenticationError::BadPassword),
        }
    }
}

#[async_trait]
impl UserDetailProvider for TokenLogin {
    type User = FtpUser;

    async fn provide_user_detail(&self, _principal: &Principal) -> Result<FtpUser, UserDetailError> {
        Ok(self.user.clone())
    }
}

/// Binds any free port, and tells the guard which.
struct AnyPort(Arc<InnerState>);

impl fmt::Debug for AnyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyPort")
    }
}

#[async_trait]
impl Binder for AnyPort {
    async fn bind(&mut self, local_addr: IpAddr, _ports: RangeInclusive<u16>) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(local_addr, 0))?;
        self.0.listens_on(socket.local_addr()?);
        Ok(socket)
    }
}

/// One inner session.
pub(super) struct Inner {
    control: TcpStream,
    heard: Vec<u8>,
    state: Arc<InnerState>,
    data: Option<(TcpStream, Instant)>,
}

impl Inner {
    /// Opens one and logs in.
    ///
    /// # Errors
    /// When libunftp does not answer as expected within 20 seconds a reply.
    pub(super) async fn open(partner: &Arc<PartnerSession>) -> io::Result<Self> {
        let state = Arc::new(InnerState::default());
        let token = format!("{:032x}", rand::random::<u128>());
        let login = Arc::new(TokenLogin { token: token.clone(), user: FtpUser::behind_guard(partner, &state) });
        let server =
            ServerBuilder::<FtpBackend, FtpUser>::with_user_detail_provider(Box::new(|| FtpBackend), login.clone())
                .authenticator(login)
                .greeting("ready")
                .idle_session_timeout(24 * 60 * 60)
                .binder(AnyPort(state.clone()))
                .sitemd5(libunftp::options::SiteMd5::None)
                .logger(slog::Logger::root(tracing_slog::TracingSlogDrain.fuse(), slog::o!()))
                .build()
                .map_err(io::Error::other)?;
        let (control, served) = pair().await?;
        // It reports its own failures, and ends when our end of the pair closes.
        tokio::spawn(async move {
            let _ = server.service(served).await;
        });
        let mut inner = Self { control, heard: Vec::new(), state, data: None };
        inner.expect(220).await?;
        inner.say(&format!("USER {NAME}")).await?;
        inner.expect(331).await?;
        inner.say(&format!("PASS {token}")).await?;
        inner.expect(230).await?;
        Ok(inner)
    }

    /// The state that the guard and libunftp's backend share.
    pub(super) fn state(&self) -> &Arc<InnerState> {
        &self.state
    }

    /// Has a data connection ready.
    pub(super) async fn prepare(&mut self) -> io::Result<()> {
        if self.data.as_ref().is_some_and(|(_, since)| since.elapsed() < FRESH) {
            return Ok(());
        }
        self.data = None;
        self.say("EPSV").await?;
        self.expect(229).await?;
        let to = self.state.take_data_address().ok_or_else(|| odd("no data port"))?;
        self.data = Some((connect(to).await?, Instant::now()));
        Ok(())
    }

    /// A command with one reply. A refusal by `ingest` is told in its own words.
    pub(super) async fn command(&mut self, line: &str) -> io::Result<Reply> {
        // A refusal that is left of an earlier command must not be told for this one.
        self.state.take_refusal();
        self.say(line).await?;
        let reply = self.reply().await?;
        if reply.is_positive() {
            return Ok(reply);
        }
        Ok(self.state.take_refusal().map_or(reply, |refusal| Reply::from(&refusal)))
    }

    /// Has libunftp begin a download. It is under way when this returns; its end is told by itself.
    pub(super) async fn trigger(&mut self, line: &str) -> io::Result<()> {
        self.prepare().await?;
        self.say(line).await?;
        self.expect(150).await
    }

    /// Takes the reply to what was triggered. The data connection is used up.
    pub(super) async fn triggered(&mut self) -> io::Result<()> {
        let last = self.reply().await?;
        self.data = None;
        if last.code == 226 || !last.is_positive() { Ok(()) } else { Err(odd(&last.text)) }
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        if line.contains(['\r', '\n']) {
            return Err(odd("a line end within a command"));
        }
        self.control.write_all(format!("{line}\r\n").as_bytes()).await
    }

    async fn expect(&mut self, code: u16) -> io::Result<()> {
        let reply = self.reply().await?;
        if reply.code == code { Ok(()) } else { Err(odd(&format!("{} instead of {code}: {}", reply.code, reply.text))) }
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        timeout(PATIENCE, self.read_reply()).await?
    }

    async fn read_reply(&mut self) -> io::Result<Reply> {
        let mut above = Vec::new();
        loop {
            let line = self.read_line().await?;
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            match (code, line.as_bytes().get(3)) {
                (Some(code), Some(b' ')) => return Ok(Reply::lines(code, above, &line[4..])),
                (Some(code), None) => return Ok(Reply::lines(code, above, "")),
                (Some(_), Some(b'-')) if above.is_empty() => above.push(line[4..].to_owned()),
                _ if above.is_empty() => return Err(odd(&line)),
                _ => above.push(line.trim_start().to_owned()),
            }
        }
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                let line = std::mem::replace(&mut self.heard, rest);
                let line = String::from_utf8_lossy(&line);
                return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.heard.len() > MOST_REPLY_BYTES {
                return Err(odd("an endless reply"));
            }
            if self.control.read_buf(&mut self.heard).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.data.is_some() {
            // libunftp waits five minutes for a command to a data connection, and keeps its session that long.
            // Best effort: libunftp also ends when our end of the pair closes, only later.
            let _ = self.control.try_write(b"ABOR\r\n");
        }
    }
}

/// Both ends of a connection to ourselves. Nobody else gets the other end: the addresses are compared.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    // Between the networks' own and the broadcast address of 127/8.
    let at = Ipv4Addr::from_bits(rand::random_range(0x7f00_0100..0x7fff_ff00));
    let listener = TcpListener::bind(SocketAddr::from((at, 0))).await?;
    let ours = connect(listener.local_addr()?).await?;
    let ours_is = ours.local_addr()?;
    let served = timeout(PATIENCE, async {
        loop {
            let (stream, from) = listener.accept().await?;
            // Another user of the machine may have connected first: it is dropped, and the wait
            // goes on.
            if from == ours_is {
                return Ok::<_, io::Error>(stream);
            }
        }
    });
    let served = served.await??;
    served.set_nodelay(true)?;
    Ok((ours, served))
}

/// Connects from the address it connects to.
async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(to.ip(), 0))?;
    let stream = timeout(PATIENCE, socket.connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the inner server said: {what}"))
}

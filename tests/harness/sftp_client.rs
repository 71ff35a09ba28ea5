//! A blocking SFTP client that sends exactly what a test says, over an SSH connection as it should be.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use russh::{
    client::{self, Handle, Msg},
    keys::PublicKeyOrCertificate,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const STATUS: u8 = 101;
pub const HANDLE: u8 = 102;
pub const DATA: u8 = 103;

/// Flags of OPEN.
pub const TO_READ: u32 = 0x01;
pub const TO_GO_ON: u32 = 0x02;
pub const TO_WRITE: u32 = 0x02 | 0x08 | 0x10;

/// What came for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: u8,
    pub id: u32,
    pub body: Vec<u8>,
}

impl Answer {
    fn read(packet: &[u8]) -> Self {
        let id = u32::from_be_bytes(packet[1..5].try_into().unwrap());
        Self { kind: packet[0], id, body: packet[5..].to_vec() }
    }

    /// Of a status: its code.
    pub fn code(&self) -> u32 {
        assert_eq!(self.kind, STATUS, "{self:?}");
        u32::from_be_bytes(self.body[..4].try_into().unwrap())
    }

    /// Of a status: its words.
    pub fn text(&self) -> String {
        assert_eq!(self.kind, STATUS, "{self:?}");
        let length = u32::from_be_bytes(self.body[4..8].try_into().unwrap()) as usize;
        String::from_utf8(self.body[8..8 + length].to_vec()).unwrap()
    }

    pub fn is_ok(&self) -> bool {
        self.kind == STATUS && self.code() == 0
    }
}

pub struct Sftp {
    runtime: Arc<Runtime>,
    session: Arc<Handle<Trusting>>,
    stream: Option<russh::ChannelStream<Msg>>,
    last: u32,
}

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Sftp {
    /// Logs in and asks for the version.
    pub fn login(server: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        Self::login_with_room(server, user, password, client::Config::default().window_size)
    }

    /// The same, and the server may send so many bytes before they are read: with few of them a client that reads nothing
    /// can still send.
    pub fn login_with_room(server: SocketAddr, user: &str, password: &str, room: u32) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let opened = runtime.block_on(async {
            timeout(PATIENCE, async {
                let config = Arc::new(client::Config { nodelay: true, window_size: room, ..client::Config::default() });
                let mut session = client::connect(config, server, Trusting).await?;
                if !session.authenticate_password(user, password).await?.success() {
                    return Err(russh::Error::NotAuthenticated);
                }
                let stream = subsystem(&session).await?;
                Ok((session, stream))
            })
            .await
        });
        let (session, stream) = opened?.map_err(io::Error::other)?;
        let mut sftp = Self { runtime: Arc::new(runtime), session: Arc::new(session), stream: Some(stream), last: 0 };
        sftp.init()?;
        Ok(sftp)
    }

    /// Another channel of the same connection, on which nothing was said yet.
    pub fn silent_channel(&self) -> io::Result<Self> {
        let opened = self.runtime.block_on(async { timeout(PATIENCE, subsystem(&self.session)).await });
        let stream = opened?.map_err(io::Error::other)?;
        Ok(Self { runtime: self.runtime.clone(), session: self.session.clone(), stream: Some(stream), last: 0 })
    }

    /// Another channel of the same connection.
    pub fn channel(&self) -> io::Result<Self> {
        let mut sftp = self.silent_channel()?;
        sftp.init()?;
        Ok(sftp)
    }

    /// What the server says of itself: the packet with its version and extensions.
    pub fn announced(&self) -> io::Result<Vec<u8>> {
        let mut sftp = self.silent_channel()?;
        sftp.send(&string(&[1, 0, 0, 0, 3]))?;
        sftp.packet()
    }

    fn init(&mut self) -> io::Result<()> {
        self.send(&string(&[1, 0, 0, 0, 3]))?;
        assert_eq!(self.packet()?[..5], [2, 0, 0, 0, 3]);
        Ok(())
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { runtime, stream: Some(stream), .. } = self else { panic!("it is there until the end") };
        let sent = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        runtime.block_on(async { timeout(PATIENCE, sent).await })?
    }

    /// The same until the server has ended the channel: writing alone would wait for room that never comes.
    pub fn send_until_ended(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { runtime, stream: Some(stream), .. } = self else { panic!("it is there until the end") };
        let (mut from, mut to) = tokio::io::split(stream);
        let ended = async {
            let mut heard = [0; 64];
            while !matches!(from.read(&mut heard).await, Ok(0) | Err(_)) {}
        };
        let sent = async {
            tokio::select! {
                biased;
                () = ended => Err(io::ErrorKind::UnexpectedEof.into()),
                sent = to.write_all(bytes) => sent,
            }
        };
        runtime.block_on(async { timeout(PATIENCE, sent).await })?
    }

    fn packet(&mut self) -> io::Result<Vec<u8>> {
        let Self { runtime, stream: Some(stream), .. } = self else { panic!("it is there until the end") };
        let read = async {
            let length = stream.read_u32().await? as usize;
            assert!(length < 1 << 20, "a packet of {length} bytes");
            let mut packet = vec![0; length];
            stream.read_exact(&mut packet).await?;
            Ok(packet)
        };
        runtime.block_on(async { timeout(PATIENCE, read).await })?
    }

    /// Sends a request and does not wait; its id.
    pub fn request(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<u32> {
        self.last += 1;
        let packet = [&[kind], &self.last.to_be_bytes()[..], &parts.concat()].concat();
        self.send(&string(&packet))?;
        Ok(self.last)
    }

    /// The next answer, to whatever.
    pub fn answer(&mut self) -> io::Result<Answer> {
        Ok(Answer::read(&self.packet()?))
    }

    /// A request and its answer.
    pub fn ask(&mut self, kind: u8, parts: &[&[u8]]) -> Answer {
        let id = self.request(kind, parts).unwrap();
        let answer = self.answer().unwrap();
        assert_eq!(answer.id, id);
        answer
    }

    /// A handle, or why there is none.
    pub fn open(&mut self, name: &str, flags: u32) -> Result<Vec<u8>, Answer> {
        let answer = self.ask(OPEN, &[&string(name.as_bytes()), &flags.to_be_bytes(), &[0; 4]]);
        if answer.kind == HANDLE { Ok(answer.body) } else { Err(answer) }
    }

    pub fn write(&mut self, handle: &[u8], offset: u64, bytes: &[u8]) -> Answer {
        self.ask(WRITE, &[handle, &offset.to_be_bytes(), &string(bytes)])
    }

    pub fn read(&mut self, handle: &[u8], offset: u64, length: u32) -> Answer {
        self.ask(READ, &[handle, &offset.to_be_bytes(), &length.to_be_bytes()])
    }

    pub fn close(&mut self, handle: &[u8]) -> Answer {
        self.ask(CLOSE, &[handle])
    }

    /// Uploads; what the last answer says.
    pub fn store(&mut self, name: &str, bytes: &[u8]) -> Answer {
        let handle = match self.open(name, TO_WRITE) {
            Ok(handle) => handle,
            Err(answer) => return answer,
        };
        for (at, piece) in bytes.chunks(32 << 10).enumerate() {
            let written = self.write(&handle, (at * (32 << 10)) as u64, piece);
            assert!(written.is_ok(), "{}", written.text());
        }
        self.close(&handle)
    }
}

impl Drop for Sftp {
    fn drop(&mut self) {
        // The channel says goodbye when it is dropped.
        let _entered = self.runtime.enter();
        drop(self.stream.take());
    }
}

async fn subsystem(session: &Handle<Trusting>) -> Result<russh::ChannelStream<Msg>, russh::Error> {
    let channel = session.channel_open_session().await?;
    channel.request_subsystem(true, "sftp").await?;
    Ok(channel.into_stream())
}

/// Bytes with their length.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

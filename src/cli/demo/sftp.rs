//! A tiny SFTP client (version 3, one request at a time), for the same reason as the FTP one.
//!
//! Packets are written by hand (draft-ietf-secsh-filexfer-02): length, kind, request id, body.
//! Kinds: 1 INIT, 3 OPEN, 4 CLOSE, 6 WRITE, 101 STATUS, 102 HANDLE.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use russh::{
    client::{self, Handle, Msg},
    keys::{HashAlg, PublicKeyOrCertificate},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

/// No reply of a local server takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// WRITE, CREAT and TRUNC (section 6.3).
const CREATE_TO_WRITE: u32 = 0x02 | 0x08 | 0x10;
/// The payload of a WRITE that every server should take (section 3: packets of 34,000 bytes).
const MOST_BYTES: usize = 32 << 10;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;

/// A session that has logged in.
pub(super) struct Sftp {
    stream: russh::ChannelStream<Msg>,
    _session: Handle<Known>,
    last: u32,
}

/// Trusts the server that has one of the fingerprints that `forebay status` shows.
struct Known {
    fingerprints: String,
}

impl client::Handler for Known {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(self.fingerprints.contains(&key.public_key().fingerprint(HashAlg::Sha256).to_string()))
    }
}

impl Sftp {
    /// Connects to the server that has one of these host keys, and logs in.
    pub(super) async fn login(server: SocketAddr, keys: &str, user: &str, password: &str) -> io::Result<Self> {
        let known = Known { fingerprints: keys.to_owned() };
        let opened = timeout(PATIENCE, async {
            let mut session = client::connect(Arc::new(client::Config::default()), server, known).await?;
            if !session.authenticate_password(user, password).await?.success() {
                return Err(russh::Error::NotAuthenticated);
            }
            let channel = session.channel_open_session().await?;
            channel.request_subsystem(true, "sftp").await?;
            Ok((session, channel.into_stream()))
        });
        let (session, stream) = opened.await?.map_err(io::Error::other)?;
        let mut sftp = Self { stream, _session: session, last: 0 };
        // INIT with version 3 (draft-ietf-secsh-filexfer-02, section 4).
        sftp.send(&[1, 0, 0, 0, 3]).await?;
        sftp.packet().await?;
        Ok(sftp)
    }

    /// Uploads, and returns what the answer to CLOSE says.
    pub(super) async fn store(&mut self, name: &str, bytes: &[u8]) -> io::Result<String> {
        let opened = self.ask(3, &[&string(name.as_bytes()), &CREATE_TO_WRITE.to_be_bytes(), &[0; 4]]).await?;
        if opened.first() != Some(&HANDLE) {
            return Err(io::Error::other(text_of(&opened)));
        }
        // Behind kind and request id: the handle with its length, as requests take it.
        let handle = opened[5..].to_vec();
        for (at, piece) in bytes.chunks(MOST_BYTES).enumerate() {
            let offset = (at * MOST_BYTES) as u64;
            let written = self.ask(6, &[&handle, &offset.to_be_bytes(), &string(piece)]).await?;
            ok(&written)?;
        }
        let closed = self.ask(4, &[&handle]).await?;
        ok(&closed)?;
        Ok(text_of(&closed))
    }

    async fn ask(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        self.last += 1;
        let mut packet = vec![kind];
        packet.extend_from_slice(&self.last.to_be_bytes());
        parts.iter().for_each(|part| packet.extend_from_slice(part));
        self.send(&packet).await?;
        self.packet().await
    }

    async fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.stream.write_all(&string(packet)).await?;
        self.stream.flush().await
    }

    async fn packet(&mut self) -> io::Result<Vec<u8>> {
        let read = async {
            let length = self.stream.read_u32().await? as usize;
            if length > 8 * MOST_BYTES {
                return Err(io::Error::other("a packet that is too long"));
            }
            let mut packet = vec![0; length];
            self.stream.read_exact(&mut packet).await?;
            Ok(packet)
        };
        timeout(PATIENCE, read).await?
    }
}

/// A length of four bytes and the bytes. A packet has the same form.
fn string(bytes: &[u8]) -> Vec<u8> {
    let mut string = (bytes.len() as u32).to_be_bytes().to_vec();
    string.extend_from_slice(bytes);
    string
}

fn ok(packet: &[u8]) -> io::Result<()> {
    match packet {
        [STATUS, _, _, _, _, 0, 0, 0, 0, ..] => Ok(()),
        other => Err(io::Error::other(text_of(other))),
    }
}

/// The text of a status.
fn text_of(packet: &[u8]) -> String {
    let length = packet.get(9..13).and_then(|length| Some(u32::from_be_bytes(length.try_into().ok()?) as usize));
    let text = length.and_then(|length| packet.get(13..13 + length));
    text.map_or_else(|| "no status".to_owned(), |text| String::from_utf8_lossy(text).into_owned())
}

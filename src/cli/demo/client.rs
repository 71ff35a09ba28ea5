//! A tiny FTP client (RFC 959, passive mode, binary): the demo needs no program but Forebay itself.
//!
//! It speaks to a server of the same build on the loopback, and checks reply codes and little else.
//! It is no client for anything else: no TLS, one transfer at a time.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    time::timeout,
};

/// No reply of a local server takes longer.
/// Reached only when the demo fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A session that has logged in.
pub(super) struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    server: SocketAddr,
}

impl Client {
    /// Connects and logs in.
    pub(super) async fn login(server: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let (reader, writer) = TcpStream::connect(server).await?.into_split();
        let mut client = Self { reader: BufReader::new(reader), writer, server };
        client.reply("2").await?;
        client.command(&format!("USER {user}"), "3").await?;
        client.command(&format!("PASS {password}"), "2").await?;
        client.command("TYPE I", "2").await?;
        Ok(client)
    }

    /// Uploads, and returns the reply that says it is kept.
    pub(super) async fn store(&mut self, name: &str, bytes: &[u8]) -> io::Result<String> {
        let mut data = self.passive().await?;
        self.command(&format!("STOR {name}"), "1").await?;
        data.write_all(bytes).await?;
        // The end of the file in stream mode is the end of the connection (RFC 959, section 3.4.1).
        data.shutdown().await?;
        drop(data);
        self.reply("2").await
    }

    /// Downloads a file.
    pub(super) async fn fetch(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let mut data = self.passive().await?;
        self.command(&format!("RETR {name}"), "1").await?;
        let mut bytes = Vec::new();
        timeout(PATIENCE, data.read_to_end(&mut bytes)).await??;
        self.reply("2").await?;
        Ok(bytes)
    }

    /// The names in a directory.
    pub(super) async fn names(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let mut data = self.passive().await?;
        self.command(&format!("NLST {directory}"), "1").await?;
        let mut text = String::new();
        timeout(PATIENCE, data.read_to_string(&mut text)).await??;
        self.reply("2").await?;
        Ok(text.lines().map(|line| line.rsplit('/').next().unwrap_or(line).to_owned()).collect())
    }

    /// Says goodbye.
    pub(super) async fn quit(mut self) -> io::Result<()> {
        self.command("QUIT", "2").await.map(drop)
    }

    /// By EPSV (RFC 2428), whose reply has no address that could be wrong.
    async fn passive(&mut self) -> io::Result<TcpStream> {
        let reply = self.command("EPSV", "2").await?;
        // 229 Entering Extended Passive Mode (|||40000|), RFC 2428.
        let port = reply.split("|||").nth(1).and_then(|rest| rest.split('|').next()).and_then(|text| text.parse().ok());
        let port = port.ok_or_else(|| io::Error::other(format!("no port in \"{reply}\"")))?;
        TcpStream::connect((self.server.ip(), port)).await
    }

    async fn command(&mut self, line: &str, expected: &str) -> io::Result<String> {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.reply(expected).await
    }

    /// The last line of a reply whose code begins as expected.
    async fn reply(&mut self, expected: &str) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if timeout(PATIENCE, self.reader.read_line(&mut line)).await?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_owned();
            // A reply of several lines ends with its code and a space (RFC 959, section 4.2).
            let is_last =
                line.len() >= 3 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit) && !line[3..].starts_with('-');
            if is_last {
                return if line.starts_with(expected) { Ok(line) } else { Err(io::Error::other(line)) };
            }
        }
    }
}

/// The status code, the headers as text, and the body of `GET <path>`.
/// HTTP/1.1 with `Connection: close`: the body ends with the connection.
pub(super) async fn get(server: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(server).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or_else(|| io::Error::other("no HTTP answer"))?, answer))
}

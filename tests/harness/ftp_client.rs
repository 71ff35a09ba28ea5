//! A blocking FTP client that does exactly what a test says. The `try_` forms are for servers that may be gone.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::ClientConfig;

use super::Stream;

/// A reply: its code and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

pub struct Ftp {
    reader: BufReader<Stream>,
    pub greeting: Reply,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Ftp {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Self::greeted(Stream::Plain(stream))
    }

    /// Over a connection that is there already.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Self::greeted(Stream::Plain(stream))
    }

    /// Begins with TLS.
    pub fn connect_implicit(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::greeted(Stream::secured(stream).unwrap()).unwrap()
    }

    fn greeted(stream: Stream) -> io::Result<Self> {
        let mut ftp = Self { reader: BufReader::new(stream), greeting: Reply { code: 0, text: String::new() } };
        ftp.greeting = ftp.try_reply()?;
        Ok(ftp)
    }

    /// AUTH TLS and the handshake.
    pub fn auth_tls(mut self) -> Self {
        assert_eq!(self.command("AUTH TLS").code, 234);
        self.handshake()
    }

    /// AUTH TLS and the handshake of a client of this sort.
    pub fn auth_tls_with(mut self, config: Arc<ClientConfig>) -> io::Result<Self> {
        assert_eq!(self.command("AUTH TLS").code, 234);
        self.try_handshake(config)
    }

    /// The same, with a server that may be gone.
    pub fn try_auth_tls(mut self, config: Arc<ClientConfig>) -> io::Result<Self> {
        let reply = self.try_command("AUTH TLS")?;
        match reply.code {
            234 => self.try_handshake(config),
            _ => Err(io::Error::other(format!("{reply:?}"))),
        }
    }

    fn try_handshake(self, config: Arc<ClientConfig>) -> io::Result<Self> {
        let Stream::Plain(stream) = self.reader.into_inner() else { panic!("it is TLS already") };
        Ok(Self { reader: BufReader::new(Stream::secured_with(stream, config)?), greeting: self.greeting })
    }

    pub fn handshake(self) -> Self {
        let Stream::Plain(stream) = self.reader.into_inner() else { panic!("it is TLS already") };
        Self { reader: BufReader::new(Stream::secured(stream).unwrap()), greeting: self.greeting }
    }

    /// PBSZ 0 and PROT P.
    pub fn protect(&mut self) {
        assert_eq!(self.command("PBSZ 0").code, 200);
        assert_eq!(self.command("PROT P").code, 200);
    }

    /// The server's certificate.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        match self.reader.get_ref() {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.conn.peer_certificates().map(|chain| chain[0].to_vec()),
        }
    }

    /// The control connection, in the clear or in TLS.
    pub fn stream(&self) -> &Stream {
        self.reader.get_ref()
    }

    /// The control connection itself.
    pub fn tcp(&self) -> &TcpStream {
        self.reader.get_ref().tcp()
    }

    /// Uploads through TLS; the last reply.
    pub fn store_secured(&mut self, name: &str, bytes: &[u8]) -> Reply {
        let data = self.passive();
        let first = self.command(&format!("STOR {name}"));
        if first.code != 150 {
            return first;
        }
        let mut data = Stream::secured(data).unwrap();
        data.write_all(bytes).unwrap();
        data.finish();
        // A clean end, and not a connection that breaks off.
        assert_eq!(data.read(&mut [0]).unwrap(), 0);
        drop(data);
        self.reply()
    }

    pub fn login(&mut self, name: &str, password: &str) {
        self.try_login(name, password).unwrap();
    }

    pub fn try_login(&mut self, name: &str, password: &str) -> io::Result<()> {
        for (command, code) in
            [(format!("USER {name}"), 331), (format!("PASS {password}"), 230), ("TYPE I".into(), 200)]
        {
            let reply = self.try_command(&command)?;
            if reply.code != code {
                return Err(io::Error::other(format!("{reply:?}")));
            }
        }
        Ok(())
    }

    pub fn command(&mut self, line: &str) -> Reply {
        self.try_command(line).unwrap()
    }

    pub fn try_command(&mut self, line: &str) -> io::Result<Reply> {
        self.try_send(line.as_bytes())?;
        self.try_reply()
    }

    /// Sends bytes as a command.
    pub fn send(&mut self, line: &[u8]) {
        self.try_send(line).unwrap();
    }

    pub fn try_send(&mut self, line: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(&[line, b"\r\n"].concat())
    }

    /// Closes one direction of the control connection.
    pub fn shutdown(&mut self, how: std::net::Shutdown) {
        self.tcp().shutdown(how).unwrap();
    }

    /// Waits until a reply has come, and does not read it.
    pub fn wait_for_bytes(&mut self) {
        assert_eq!(self.reader.get_ref().tcp().peek(&mut [0]).unwrap(), 1);
    }

    pub fn reply(&mut self) -> Reply {
        self.try_reply().unwrap()
    }

    pub fn try_reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.push_str(&line);
            let is_last = line.len() > 3 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit) && &line[3..4] == " ";
            if is_last {
                return Ok(Reply { code: line[..3].parse().unwrap(), text });
            }
        }
    }

    /// Opens a data connection.
    pub fn passive(&mut self) -> TcpStream {
        self.try_passive().unwrap()
    }

    pub fn try_passive(&mut self) -> io::Result<TcpStream> {
        let reply = self.try_command("EPSV")?;
        let port = reply.text.split('|').nth(3).and_then(|port| port.parse::<u16>().ok());
        let port = port.filter(|_| reply.code == 229).ok_or_else(|| io::Error::other(format!("{reply:?}")))?;
        let mut address = self.tcp().peer_addr()?;
        address.set_port(port);
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Uploads; the last reply.
    pub fn store(&mut self, name: &str, bytes: &[u8]) -> Reply {
        self.upload("STOR", name, bytes)
    }

    pub fn upload(&mut self, verb: &str, name: &str, bytes: &[u8]) -> Reply {
        self.try_upload(verb, name, bytes).unwrap()
    }

    pub fn try_upload(&mut self, verb: &str, name: &str, bytes: &[u8]) -> io::Result<Reply> {
        let mut data = self.try_passive()?;
        let first = self.try_command(&format!("{verb} {name}"))?;
        if first.code != 150 {
            return Ok(first);
        }
        // A refusal may close it early.
        let _ = data.write_all(bytes);
        drop(data);
        self.try_reply()
    }

    /// A listing or a file.
    pub fn fetch(&mut self, command: &str) -> Result<Vec<u8>, Reply> {
        let mut data = self.passive();
        let first = self.command(command);
        if first.code != 150 {
            return Err(first);
        }
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).unwrap();
        let last = self.reply();
        match last.code {
            226 => Ok(bytes),
            _ => Err(last),
        }
    }

    pub fn list(&mut self, directory: &str) -> Vec<String> {
        let names = String::from_utf8(self.fetch(&format!("NLST {directory}")).unwrap()).unwrap();
        let mut names: Vec<_> = names.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

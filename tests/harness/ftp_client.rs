//! A blocking FTP client that does exactly what a test says.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A reply: its code and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

pub struct Ftp {
    reader: BufReader<TcpStream>,
    pub greeting: Reply,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Ftp {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut ftp = Self { reader: BufReader::new(stream), greeting: Reply { code: 0, text: String::new() } };
        ftp.greeting = ftp.reply();
        ftp
    }

    pub fn login(&mut self, name: &str, password: &str) {
        assert_eq!(self.command(&format!("USER {name}")).code, 331);
        assert_eq!(self.command(&format!("PASS {password}")).code, 230);
        assert_eq!(self.command("TYPE I").code, 200);
    }

    pub fn command(&mut self, line: &str) -> Reply {
        self.send(line.as_bytes());
        self.reply()
    }

    /// Sends bytes as a command.
    pub fn send(&mut self, line: &[u8]) {
        self.reader.get_mut().write_all(&[line, b"\r\n"].concat()).unwrap();
    }

    /// Closes one direction of the control connection.
    pub fn shutdown(&mut self, how: std::net::Shutdown) {
        self.reader.get_ref().shutdown(how).unwrap();
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
        let reply = self.command("EPSV");
        assert_eq!(reply.code, 229, "{}", reply.text);
        let port = reply.text.split('|').nth(3).unwrap().parse::<u16>().unwrap();
        let mut address = self.reader.get_ref().peer_addr().unwrap();
        address.set_port(port);
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Uploads; the last reply.
    pub fn store(&mut self, name: &str, bytes: &[u8]) -> Reply {
        self.upload("STOR", name, bytes)
    }

    pub fn upload(&mut self, verb: &str, name: &str, bytes: &[u8]) -> Reply {
        let mut data = self.passive();
        let first = self.command(&format!("{verb} {name}"));
        if first.code != 150 {
            return first;
        }
        // A refusal may close it early.
        let _ = data.write_all(bytes);
        drop(data);
        self.reply()
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

//! What a partner can do, over FTP with and without TLS.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
};

use super::{Answer, Client, Ftp, Stream, client::Refused, ftp_client::Reply, stream::trusting};

pub struct FtpSession {
    ftp: Ftp,
    secured: bool,
    under_way: Option<Stream>,
    acceptance: String,
}

fn told(reply: Reply) -> Answer {
    match reply.code {
        200..400 => Ok(()),
        code => Err(Refused { code: code.into(), text: reply.text }),
    }
}

const FTP_VERBS: [&str; 22] = [
    "CWD", "XCWD", "MKD", "XMKD", "RMD", "XRMD", "DELE", "RNFR", "RNTO", "SIZE", "MDTM", "MLST", "MLSD", "LIST",
    "NLST", "STAT", "RETR", "STOR", "APPE", "HASH", "XSHA256", "XCRC",
];

impl FtpSession {
    pub fn enter(at: SocketAddr, user: &str, password: &str, secured: bool) -> io::Result<Self> {
        let mut ftp = Ftp::try_connect(at)?;
        if secured {
            ftp = ftp.try_auth_tls(trusting())?;
        }
        ftp.try_login(user, password)?;
        for command in ["PBSZ 0", "PROT P"].iter().filter(|_| secured) {
            told(ftp.try_command(command)?).map_err(|refused| io::Error::other(refused.to_string()))?;
        }
        Ok(Self { ftp, secured, under_way: None, acceptance: String::new() })
    }

    /// The data connection for a command, once it is allowed.
    fn data(&mut self, command: &[u8]) -> io::Result<Answer<Stream>> {
        let data = self.ftp.try_passive()?;
        self.ftp.try_send(command)?;
        let reply = self.ftp.try_reply()?;
        if reply.code != 150 {
            return Ok(Err(Refused { code: reply.code.into(), text: reply.text }));
        }
        Ok(Ok(if self.secured { Stream::secured(data)? } else { Stream::Plain(data) }))
    }

    fn receive(&mut self, command: &[u8]) -> io::Result<(Answer, Vec<u8>)> {
        let mut data = match self.data(command)? {
            Ok(data) => data,
            Err(refused) => return Ok((Err(refused), Vec::new())),
        };
        let mut bytes = Vec::new();
        // One that breaks off says so in its reply.
        let _ = data.read_to_end(&mut bytes);
        Ok((told(self.ftp.try_reply()?), bytes))
    }

    fn command(&mut self, line: &str) -> Answer {
        told(self.ftp.command(line))
    }
}

impl Client for FtpSession {
    fn try_begin(&mut self, name: &str, bytes: &[u8]) -> io::Result<Answer> {
        match self.data(format!("STOR {name}").as_bytes())? {
            Ok(data) => self.under_way = Some(data),
            Err(refused) => return Ok(Err(refused)),
        }
        self.try_more(bytes)?;
        Ok(Ok(()))
    }

    fn try_more(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A refusal may close it early.
        let _ = self.under_way.as_mut().expect("it was begun").write_all(bytes);
        Ok(())
    }

    fn try_finish(&mut self) -> io::Result<Answer> {
        let mut data = self.under_way.take().expect("it was begun");
        if data.try_finish().is_ok() && self.secured {
            let _ = data.read(&mut [0]);
        }
        drop(data);
        let reply = self.ftp.try_reply()?;
        if reply.code == 226 {
            self.acceptance = reply.text["226 ".len()..].trim_end().to_owned();
        }
        Ok(told(reply))
    }

    fn acceptance(&self) -> &str {
        &self.acceptance
    }

    fn try_rename(&mut self, from: &str, to: &str) -> io::Result<Answer> {
        match told(self.ftp.try_command(&format!("RNFR {from}"))?) {
            Ok(()) => Ok(told(self.ftp.try_command(&format!("RNTO {to}"))?)),
            refused => Ok(refused),
        }
    }

    fn delete(&mut self, name: &str) -> Answer {
        self.command(&format!("DELE {name}"))
    }

    fn make_directory(&mut self, name: &str) -> Answer {
        self.command(&format!("MKD {name}"))
    }

    fn remove_directory(&mut self, name: &str) -> Answer {
        self.command(&format!("RMD {name}"))
    }

    fn fetch(&mut self, name: &str) -> Answer<Vec<u8>> {
        let (answer, bytes) = self.receive(format!("RETR {name}").as_bytes()).unwrap();
        answer.map(|()| bytes)
    }

    fn list(&mut self, directory: &str) -> Vec<String> {
        let (answer, bytes) = self.receive(format!("NLST {directory}").as_bytes()).unwrap();
        answer.unwrap();
        let mut names: Vec<_> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    fn verbs(&self) -> &'static [&'static str] {
        &FTP_VERBS
    }

    fn renames_mine_to(&self, verb: &str) -> bool {
        verb == "RNTO"
    }

    fn say(&mut self, verb: &str, path: &[u8]) -> (Answer, String) {
        if verb == "rename-back" {
            self.ftp.send(&[b"RNFR ", path].concat());
            told(self.ftp.reply()).unwrap();
            return (self.command("RNTO mine.hl7"), String::new());
        }
        if verb == "RNTO" {
            self.command("RNFR mine.hl7").unwrap();
        }
        let line = [verb.as_bytes(), b" ", path].concat();
        let (answer, heard) = match verb {
            "MLSD" | "LIST" | "NLST" | "RETR" => self.receive(&line).unwrap(),
            "STOR" | "APPE" => match self.data(&line).unwrap() {
                Ok(data) => {
                    self.under_way = Some(data);
                    self.try_more(b"overwritten").unwrap();
                    (self.try_finish().unwrap(), Vec::new())
                }
                Err(refused) => (Err(refused), Vec::new()),
            },
            _ => {
                self.ftp.send(&line);
                let reply = self.ftp.reply();
                let heard = reply.text.clone().into_bytes();
                (told(reply), heard)
            }
        };
        self.command("CWD /").unwrap();
        (answer, String::from_utf8_lossy(&heard).into_owned())
    }

    fn try_babble(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.ftp.tcp();
        stream.set_write_timeout(Some(std::time::Duration::from_secs(20)))?;
        stream.write_all(bytes)
    }
}

//! What a partner can do, over SFTP.

use std::{io, net::SocketAddr};

use super::{
    Answer, Client,
    client::Refused,
    sftp_client::{self, CLOSE, DATA, HANDLE, OPEN, READ, STATUS, Sftp, TO_READ, TO_WRITE, WRITE, string},
};

/// Kinds of requests, besides those that the client has names for.
mod kind {
    pub const LSTAT: u8 = 7;
    pub const SETSTAT: u8 = 9;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const EXTENDED: u8 = 200;
}

/// What OpenSSH's client writes at once.
const PIECE_BYTES: usize = 32 << 10;
const END_OF_FILE: u32 = 1;

pub struct SftpSession {
    sftp: Sftp,
    /// The handle, and the next byte, or why there is none.
    under_way: Option<(Vec<u8>, Answer<u64>)>,
    acceptance: String,
}

const SFTP_VERBS: [&str; 18] = [
    "open-r",
    "open-w",
    "lstat",
    "stat",
    "setstat",
    "opendir",
    "remove",
    "mkdir",
    "rmdir",
    "realpath",
    "rename-from",
    "rename-to",
    "posix-rename-to",
    "readlink",
    "symlink-to",
    "symlink-at",
    "hardlink-to",
    "statvfs",
];

fn told(answer: sftp_client::Answer) -> Answer<sftp_client::Answer> {
    match answer.kind {
        STATUS if answer.code() > 0 => Err(Refused { code: answer.code(), text: answer.text() }),
        _ => Ok(answer),
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// The names of a directory, of an answer's body.
fn names(body: &[u8]) -> Vec<String> {
    let (mut at, mut names) = (4, Vec::new());
    for _ in 0..number(body, 0) {
        let length = number(body, at);
        names.push(String::from_utf8_lossy(&body[at + 4..at + 4 + length]).into_owned());
        at += 4 + length;
        at += 4 + number(body, at);
        let flags = number(body, at);
        let sizes = [(0x01, 8), (0x02, 8), (0x04, 4), (0x08, 8)];
        at += 4 + sizes.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, size)| size).sum::<usize>();
    }
    names.retain(|name| name != "." && name != "..");
    names
}

impl SftpSession {
    pub fn enter(at: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        Ok(Self { sftp: Sftp::login(at, user, password)?, under_way: None, acceptance: String::new() })
    }

    fn ask(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<Answer<sftp_client::Answer>> {
        let id = self.sftp.request(kind, parts)?;
        let answer = self.sftp.answer()?;
        assert_eq!(answer.id, id, "the answer to something else");
        Ok(told(answer))
    }

    fn open(&mut self, path: &[u8], flags: u32) -> io::Result<Answer<Vec<u8>>> {
        let opened = self.ask(OPEN, &[&string(path), &flags.to_be_bytes(), &[0; 4]])?;
        Ok(opened.map(|answer| {
            assert_eq!(answer.kind, HANDLE);
            answer.body
        }))
    }

    /// Writes from this byte on; where it ends.
    fn write(&mut self, handle: &[u8], mut at: u64, bytes: &[u8]) -> io::Result<Answer<u64>> {
        for piece in bytes.chunks(PIECE_BYTES) {
            if let Err(refused) = self.ask(WRITE, &[handle, &at.to_be_bytes(), &string(piece)])? {
                return Ok(Err(refused));
            }
            at += piece.len() as u64;
        }
        Ok(Ok(at))
    }

    fn close(&mut self, handle: &[u8]) -> io::Result<Answer> {
        Ok(self.ask(CLOSE, &[handle])?.map(drop))
    }

    fn fetched(&mut self, path: &[u8]) -> Answer<Vec<u8>> {
        let handle = self.open(path, TO_READ).unwrap()?;
        let mut bytes = Vec::new();
        loop {
            let at = (bytes.len() as u64).to_be_bytes();
            match self.ask(READ, &[&handle, &at, &(PIECE_BYTES as u32).to_be_bytes()]).unwrap() {
                Ok(answer) => {
                    assert_eq!(answer.kind, DATA);
                    bytes.extend_from_slice(&answer.body[4..]);
                }
                Err(Refused { code: END_OF_FILE, .. }) => break,
                Err(refused) => return Err(refused),
            }
        }
        self.close(&handle).unwrap().map(|()| bytes)
    }

    fn listed(&mut self, path: &[u8]) -> Answer<Vec<String>> {
        let handle = self.ask(kind::OPENDIR, &[&string(path)]).unwrap()?.body;
        let mut found = Vec::new();
        loop {
            match self.ask(kind::READDIR, &[&handle]).unwrap() {
                Ok(answer) => found.extend(names(&answer.body)),
                Err(Refused { code: END_OF_FILE, .. }) => break,
                Err(refused) => return Err(refused),
            }
        }
        found.sort();
        self.close(&handle).unwrap().map(|()| found)
    }

    fn named(&mut self, kind: u8, path: &[u8]) -> Answer {
        self.ask(kind, &[&string(path)]).unwrap().map(drop)
    }
}

impl Client for SftpSession {
    fn try_begin(&mut self, name: &str, bytes: &[u8]) -> io::Result<Answer> {
        match self.open(name.as_bytes(), TO_WRITE)? {
            Ok(handle) => self.under_way = Some((handle, Ok(0))),
            Err(refused) => return Ok(Err(refused)),
        }
        self.try_more(bytes)?;
        Ok(Ok(()))
    }

    fn try_more(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (handle, at) = self.under_way.take().expect("it was begun");
        let at = match at {
            Ok(begins) => self.write(&handle, begins, bytes)?,
            refused => refused,
        };
        self.under_way = Some((handle, at));
        Ok(())
    }

    fn try_finish(&mut self) -> io::Result<Answer> {
        let (handle, at) = self.under_way.take().expect("it was begun");
        let closed = self.ask(CLOSE, &[&handle])?.map(|answer| self.acceptance = answer.text());
        // What was not written is not kept either.
        if let Err(refused) = at {
            assert!(closed.is_err(), "{refused}, and then it was closed as if it were whole");
            return Ok(Err(refused));
        }
        Ok(closed)
    }

    fn acceptance(&self) -> &str {
        &self.acceptance
    }

    fn try_rename(&mut self, from: &str, to: &str) -> io::Result<Answer> {
        Ok(self.ask(kind::RENAME, &[&string(from.as_bytes()), &string(to.as_bytes())])?.map(drop))
    }

    fn delete(&mut self, name: &str) -> Answer {
        self.named(kind::REMOVE, name.as_bytes())
    }

    fn make_directory(&mut self, name: &str) -> Answer {
        self.ask(kind::MKDIR, &[&string(name.as_bytes()), &[0; 4]]).unwrap().map(drop)
    }

    fn remove_directory(&mut self, name: &str) -> Answer {
        self.named(kind::RMDIR, name.as_bytes())
    }

    fn fetch(&mut self, name: &str) -> Answer<Vec<u8>> {
        self.fetched(name.as_bytes())
    }

    fn list(&mut self, directory: &str) -> Vec<String> {
        self.listed(directory.as_bytes()).unwrap()
    }

    fn verbs(&self) -> &'static [&'static str] {
        &SFTP_VERBS
    }

    fn renames_mine_to(&self, verb: &str) -> bool {
        matches!(verb, "rename-to" | "posix-rename-to")
    }

    fn say(&mut self, verb: &str, path: &[u8]) -> (Answer, String) {
        let (name, mine, none) = (string(path), string(b"mine.hl7"), [0; 4]);
        let extended = |name: &str| string(format!("{name}@openssh.com").as_bytes());
        let asked = match verb {
            "open-r" => return heard(self.fetched(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            "opendir" => return heard(self.listed(path).map(|names| names.join("\n"))),
            "open-w" => match self.open(path, TO_WRITE).unwrap() {
                Ok(handle) => {
                    let written = self.write(&handle, 0, b"overwritten").unwrap();
                    let closed = self.close(&handle).unwrap();
                    return heard(written.and(closed).map(|()| String::new()));
                }
                Err(refused) => return heard(Err(refused)),
            },
            "posix-rename-to" => self.ask(kind::EXTENDED, &[&extended("posix-rename"), &mine, &name]),
            "hardlink-to" => self.ask(kind::EXTENDED, &[&extended("hardlink"), &name, &string(b"hard")]),
            "statvfs" => self.ask(kind::EXTENDED, &[&extended("statvfs"), &name]),
            "lstat" => self.ask(kind::LSTAT, &[&name]),
            "stat" => self.ask(kind::STAT, &[&name]),
            "setstat" => self.ask(kind::SETSTAT, &[&name, &4u32.to_be_bytes(), &0o777u32.to_be_bytes()]),
            "remove" => self.ask(kind::REMOVE, &[&name]),
            "mkdir" => self.ask(kind::MKDIR, &[&name, &none]),
            "rmdir" => self.ask(kind::RMDIR, &[&name]),
            "realpath" => self.ask(kind::REALPATH, &[&name]),
            "rename-from" => self.ask(kind::RENAME, &[&name, &string(b"taken.hl7")]),
            "rename-back" => self.ask(kind::RENAME, &[&name, &mine]),
            "rename-to" => self.ask(kind::RENAME, &[&mine, &name]),
            "readlink" => self.ask(kind::READLINK, &[&name]),
            "symlink-to" => self.ask(kind::SYMLINK, &[&name, &string(b"link")]),
            "symlink-at" => self.ask(kind::SYMLINK, &[&string(b"/etc/passwd"), &name]),
            other => panic!("no such request: {other}"),
        };
        heard(asked.unwrap().map(|answer| String::from_utf8_lossy(&answer.body).into_owned()))
    }

    fn try_babble(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sftp.send_until_ended(bytes)
    }
}

fn heard(answer: Answer<String>) -> (Answer, String) {
    let text = answer.as_ref().map_or_else(|_| String::new(), Clone::clone);
    (answer.map(drop), text)
}

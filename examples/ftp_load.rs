//! A load generator for FTP servers, the same for every server: sessions that stay logged in, each uploading files over
//! passive mode, with every reply read and counted.
//!
//! `ftp_load --address 127.0.0.1:2121 --user demo --password … --sessions 16 --files 4000 --bytes 10240` prints one
//! JSON object. `--directory D` changes into D first, `--users 64` appends a number to the user's name for that many
//! users, `--pause-ms` rests between files, `--stamps FILE` writes the wall clock of each 226 with the file's name,
//! `--hold SECONDS` keeps the sessions open and idle once all files are sent, and says so on a line of its own first.
//! `--login-each 1` connects, logs in and quits for each file. `--tls 1` does all of it over explicit TLS (RFC 4217),
//! control and data, with the session of the control connection resumed, and with any certificate: it measures.
#![allow(clippy::disallowed_methods, reason = "a stopwatch, not a decision that depends on time")]

#[path = "load/wire.rs"]
mod wire;

use std::{
    collections::HashMap,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr},
    sync::{
        Arc, Barrier, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::ClientConfig;
use wire::{Stream, tls};

/// What the command line asks for.
struct Load {
    address: SocketAddr,
    user: String,
    users: usize,
    password: String,
    directory: Option<String>,
    prefix: String,
    sessions: usize,
    files: usize,
    bytes: usize,
    pause: Duration,
    hold: Duration,
    stamps: Option<String>,
    login_each: bool,
    tls: bool,
}

/// What one session saw.
#[derive(Default)]
struct Seen {
    micros: Vec<u64>,
    stamps: Vec<(String, u128)>,
    refused: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let load = Load::from_arguments()?;
    let next = AtomicUsize::new(0);
    let door = Mutex::new(());
    let ready = Barrier::new(load.sessions + 1);
    let sent = Barrier::new(load.sessions + 1);
    thread::scope(|scope| {
        let sessions: Vec<_> = (0..load.sessions)
            .map(|number| {
                let (load, door, next, ready, sent) = (&load, &door, &next, &ready, &sent);
                let run = move || session(load, number, door, next, ready, sent);
                thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, run)
            })
            .collect::<io::Result<_>>()?;
        ready.wait();
        let began = Instant::now();
        sent.wait();
        let seconds = began.elapsed().as_secs_f64();
        if !load.hold.is_zero() {
            println!("holding");
            io::stdout().flush()?;
        }
        let mut all = Seen::default();
        for session in sessions {
            let seen = session.join().map_err(|_| "a session panicked")??;
            all.micros.extend(seen.micros);
            all.stamps.extend(seen.stamps);
            all.refused.extend(seen.refused);
        }
        report(&load, seconds, all)
    })
}

impl Load {
    fn from_arguments() -> Result<Self, Box<dyn Error>> {
        let mut given = HashMap::new();
        let mut arguments = env::args().skip(1);
        while let Some(key) = arguments.next() {
            let key = key.strip_prefix("--").ok_or_else(|| format!("not an option: {key}"))?.to_owned();
            let value = arguments.next().ok_or_else(|| format!("--{key} needs a value"))?;
            given.insert(key, value);
        }
        let mut take = |key: &str, default: &str| given.remove(key).unwrap_or_else(|| default.to_owned());
        let text = |value: String| (!value.is_empty()).then_some(value);
        let load = Self {
            address: take("address", "127.0.0.1:2121").parse()?,
            user: take("user", "demo"),
            users: take("users", "0").parse()?,
            password: take("password", ""),
            directory: text(take("directory", "")),
            prefix: take("prefix", "f"),
            sessions: take("sessions", "1").parse()?,
            files: take("files", "1").parse()?,
            bytes: take("bytes", "10240").parse()?,
            pause: Duration::from_millis(take("pause-ms", "0").parse()?),
            hold: Duration::from_secs_f64(take("hold", "0").parse()?),
            stamps: text(take("stamps", "")),
            login_each: take("login-each", "0") != "0",
            tls: take("tls", "0") != "0",
        };
        match given.keys().next() {
            Some(key) => Err(format!("unknown option --{key}").into()),
            None => Ok(load),
        }
    }
}

/// Logs in, waits for the others, sends its share. Meets both barriers also when it fails, so that nobody waits for it.
fn session(
    load: &Load,
    number: usize,
    door: &Mutex<()>,
    next: &AtomicUsize,
    ready: &Barrier,
    sent: &Barrier,
) -> io::Result<Seen> {
    // One login at a time: some servers listen with a short backlog, and logins are not what is measured.
    let client = {
        let _turn = door.lock().unwrap_or_else(PoisonError::into_inner);
        Client::login(load, number)
    };
    ready.wait();
    let result = client.and_then(|mut client| {
        let seen = client.send_share(load, number, next)?;
        Ok((client, seen))
    });
    sent.wait();
    let (mut client, seen) = result?;
    if !load.hold.is_zero() {
        thread::sleep(load.hold);
    }
    client.command("QUIT")?;
    Ok(seen)
}

/// Says that nothing more comes. Closed before the reply it would be reset, with the session tickets unread in it.
fn end(stream: &mut Stream) -> io::Result<()> {
    if let Stream::Tls(stream) = stream {
        // Behind a file of no bytes the handshake is still to come.
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.conn.send_close_notify();
        stream.flush()?;
    }
    match stream {
        Stream::Clear(socket) => socket.shutdown(Shutdown::Write),
        Stream::Tls(stream) => stream.sock.shutdown(Shutdown::Write),
    }
}

/// One logged-in session.
struct Client {
    control: BufReader<Stream>,
    content: Vec<u8>,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    fn login(load: &Load, number: usize) -> io::Result<Self> {
        let control = Stream::Clear(Stream::connect(load.address)?);
        let content = vec![0x5a; load.bytes.min(256 << 10)];
        let mut client = Self { control: BufReader::with_capacity(512, control), content, tls: None };
        expect(client.reply()?, "220")?;
        if load.tls {
            client = client.secure()?;
        }
        let user = match load.users {
            0 => load.user.clone(),
            users => format!("{}{:02}", load.user, number % users),
        };
        expect(client.command(&format!("USER {user}"))?, "331")?;
        expect(client.command(&format!("PASS {}", load.password))?, "230")?;
        expect(client.command("TYPE I")?, "200")?;
        if let Some(directory) = &load.directory {
            expect(client.command(&format!("CWD {directory}"))?, "250")?;
        }
        Ok(client)
    }

    /// AUTH TLS, and all data too (RFC 4217, sections 4 and 8).
    fn secure(mut self) -> io::Result<Self> {
        expect(self.command("AUTH TLS")?, "234")?;
        let tls = tls()?;
        let Stream::Clear(socket) = self.control.into_inner() else { return Err(io::ErrorKind::AlreadyExists.into()) };
        let control = BufReader::with_capacity(512, Stream::secured(socket, &tls)?);
        let mut client = Self { control, content: self.content, tls: Some(tls) };
        expect(client.command("PBSZ 0")?, "200")?;
        expect(client.command("PROT P")?, "200")?;
        Ok(client)
    }

    fn send_share(&mut self, load: &Load, session: usize, next: &AtomicUsize) -> io::Result<Seen> {
        let mut seen = Seen::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= load.files {
                return Ok(seen);
            }
            let name = format!("{}{number:06}", load.prefix);
            let began = Instant::now();
            let reply = match load.login_each {
                true => {
                    let mut own = Self::login(load, session)?;
                    let reply = own.store(&name, load.bytes)?;
                    own.command("QUIT")?;
                    reply
                }
                false => self.store(&name, load.bytes)?,
            };
            if reply.starts_with("226") {
                seen.micros.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
                if load.stamps.is_some() {
                    seen.stamps.push((name, SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos())));
                }
            } else {
                seen.refused.push(reply);
            }
            if !load.pause.is_zero() {
                thread::sleep(load.pause);
            }
        }
    }

    fn store(&mut self, name: &str, bytes: usize) -> io::Result<String> {
        let passive = self.command("PASV")?;
        let Some(address) = passive_address(&passive) else { return Ok(passive) };
        let data = Stream::connect(address)?;
        let begin = self.command(&format!("STOR {name}"))?;
        if !begin.starts_with('1') {
            return Ok(begin);
        }
        let mut data = match &self.tls {
            Some(tls) => Stream::secured(data, tls)?,
            None => Stream::Clear(data),
        };
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(self.content.len());
            data.write_all(&self.content[..piece])?;
            left -= piece;
        }
        end(&mut data)?;
        self.reply()
    }

    fn command(&mut self, line: &str) -> io::Result<String> {
        self.control.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// The last line of the next reply (RFC 959, section 4.2).
    fn reply(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.control.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let bytes = line.as_bytes();
            if bytes.len() >= 4 && bytes[..3].iter().all(u8::is_ascii_digit) && bytes[3] == b' ' {
                return Ok(line.trim_end().to_owned());
            }
        }
    }
}

fn expect(reply: String, code: &str) -> io::Result<()> {
    if reply.starts_with(code) { Ok(()) } else { Err(io::Error::other(format!("expected {code}, got: {reply}"))) }
}

fn passive_address(reply: &str) -> Option<SocketAddr> {
    let inside = reply.strip_prefix("227")?.split_once('(')?.1.split_once(')')?.0;
    let numbers: Vec<u8> = inside.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    let [a, b, c, d, high, low] = *numbers.as_slice() else { return None };
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
}

fn report(load: &Load, seconds: f64, mut seen: Seen) -> Result<(), Box<dyn Error>> {
    seen.micros.sort_unstable();
    let kept = seen.micros.len();
    let at = |share: f64| seen.micros.get(((kept as f64 * share) as usize).min(kept.saturating_sub(1))).copied();
    println!(
        "{{\"sessions\":{},\"files\":{kept},\"refused\":{},\"seconds\":{seconds:.4},\"files_per_second\":{:.1},\
         \"megabytes_per_second\":{:.1},\"p50_us\":{},\"p99_us\":{}}}",
        load.sessions,
        seen.refused.len(),
        kept as f64 / seconds,
        (kept * load.bytes) as f64 / seconds / 1e6,
        at(0.5).unwrap_or(0),
        at(0.99).unwrap_or(0),
    );
    if let Some(path) = &load.stamps {
        let mut text = String::new();
        for (name, nanos) in &seen.stamps {
            writeln!(text, "{name} {nanos}")?;
        }
        fs::write(path, text)?;
    }
    match seen.refused.first() {
        Some(reply) => Err(format!("{} uploads refused, the first with: {reply}", seen.refused.len()).into()),
        None => Ok(()),
    }
}

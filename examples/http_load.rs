//! A load generator for HTTP servers: connections that stay open, each sending requests one after the other.
//!
//! `http_load --address 127.0.0.1:8080 --path '/v1/files?name=f{n}' --user demo --password … --connections 16
//! --requests 4000 --bytes 10240` prints one JSON object. `{n}` in the path is the number of the request. Without `--bytes`
//! it is GET, with them POST. `--rate 1000` sends so many a second in all, in even steps. `--tls 1` does it over TLS, with any
//! certificate: it measures.
#![allow(clippy::disallowed_methods, reason = "a stopwatch, not a decision that depends on time")]

#[path = "load/wire.rs"]
mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    env,
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use wire::{Stream, tls};

/// What the command line asks for.
struct Load {
    address: SocketAddr,
    path: String,
    /// With its line end; empty without a user.
    authorization: String,
    connections: usize,
    requests: usize,
    /// None: GET.
    bytes: Option<usize>,
    /// Requests a second in all; 0: as many as there can be.
    rate: f64,
    tls: bool,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    micros: Vec<u64>,
    statuses: BTreeMap<u16, usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let load = Load::from_arguments()?;
    let (next, ready) = (AtomicUsize::new(0), Barrier::new(load.connections + 1));
    thread::scope(|scope| {
        let connections: Vec<_> = (0..load.connections)
            .map(|_| {
                let (load, next, ready) = (&load, &next, &ready);
                let run = move || connection(load, next, ready);
                thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run)
            })
            .collect::<io::Result<_>>()?;
        ready.wait();
        let began = Instant::now();
        let mut all = Seen::default();
        for connection in connections {
            let seen = connection.join().map_err(|_| "a connection panicked")??;
            all.micros.extend(seen.micros);
            for (status, count) in seen.statuses {
                *all.statuses.entry(status).or_default() += count;
            }
        }
        report(&load, began.elapsed().as_secs_f64(), all);
        Ok(())
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
        let (user, password) = (take("user", ""), take("password", ""));
        let basic = || format!("Authorization: Basic {}\r\n", BASE64.encode(format!("{user}:{password}").as_bytes()));
        let bytes = take("bytes", "");
        let load = Self {
            address: take("address", "127.0.0.1:8080").parse()?,
            path: take("path", "/"),
            authorization: if user.is_empty() { String::new() } else { basic() },
            connections: take("connections", "1").parse()?,
            requests: take("requests", "1").parse()?,
            bytes: if bytes.is_empty() { None } else { Some(bytes.parse()?) },
            rate: take("rate", "0").parse()?,
            tls: take("tls", "0") != "0",
        };
        match given.keys().next() {
            Some(key) => Err(format!("unknown option --{key}").into()),
            None => Ok(load),
        }
    }
}

/// Sends its share. Meets the barrier also when it cannot connect, so that nobody waits for it.
fn connection(load: &Load, next: &AtomicUsize, ready: &Barrier) -> io::Result<Seen> {
    let opened = open(load);
    ready.wait();
    let (mut stream, began, mut seen) = (opened?, Instant::now(), Seen::default());
    let content = vec![0x5a; load.bytes.unwrap_or(0).min(256 << 10)];
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.requests {
            return Ok(seen);
        }
        if load.rate > 0.0 {
            let due = Duration::from_secs_f64(number as f64 / load.rate);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let asked = Instant::now();
        send(load, stream.get_mut(), number, &content)?;
        let (status, goes_on) = answer(&mut stream)?;
        seen.micros.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
        *seen.statuses.entry(status).or_default() += 1;
        if !goes_on {
            stream = open(load)?;
        }
    }
}

fn open(load: &Load) -> io::Result<BufReader<Stream>> {
    let socket = Stream::connect(load.address)?;
    let stream = if load.tls { Stream::secured(socket, &tls()?)? } else { Stream::Clear(socket) };
    Ok(BufReader::new(stream))
}

fn send(load: &Load, stream: &mut Stream, number: usize, content: &[u8]) -> io::Result<()> {
    let path = load.path.replace("{n}", &format!("{number:07}"));
    let (method, length) = match load.bytes {
        None => ("GET", String::new()),
        Some(bytes) => ("POST", format!("Content-Length: {bytes}\r\n")),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n{}{length}\r\n",
        load.authorization
    );
    let mut left = load.bytes.unwrap_or(0);
    // A small file goes out with its head, as clients send it.
    let with = left.min(content.len());
    stream.write_all(&[head.as_bytes(), &content[..with]].concat())?;
    left -= with;
    while left > 0 {
        let piece = left.min(content.len());
        stream.write_all(&content[..piece])?;
        left -= piece;
    }
    stream.flush()
}

/// The status of an answer, and whether another may follow (RFC 9112, sections 4 and 9.3).
fn answer(stream: &mut BufReader<Stream>) -> io::Result<(u16, bool)> {
    let (mut status, mut length, mut goes_on) = (None, 0, true);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if status.is_none() {
            status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        } else if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
                "connection" => goes_on = value.trim() != "close",
                _ => {}
            }
        }
    }
    io::copy(&mut stream.take(length), &mut io::sink())?;
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, goes_on))
}

fn report(load: &Load, seconds: f64, mut seen: Seen) {
    seen.micros.sort_unstable();
    let count = seen.micros.len();
    let at = |share: f64| seen.micros.get(((count as f64 * share) as usize).min(count.saturating_sub(1))).copied();
    let statuses: Vec<_> = seen.statuses.iter().map(|(status, count)| format!("\"{status}\":{count}")).collect();
    println!(
        "{{\"connections\":{},\"requests\":{count},\"statuses\":{{{}}},\"seconds\":{seconds:.4},\"per_second\":{:.1},\
         \"megabytes_per_second\":{:.1},\"p50_us\":{},\"p99_us\":{}}}",
        load.connections,
        statuses.join(","),
        count as f64 / seconds,
        (count * load.bytes.unwrap_or(0)) as f64 / seconds / 1e6,
        at(0.5).unwrap_or(0),
        at(0.99).unwrap_or(0),
    );
}

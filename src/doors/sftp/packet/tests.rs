//! Packets that are whole, cut, broken and made up.

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{assembler::MOST_PIECES, *};

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((body.len() + 1) as u32).to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

fn write(id: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 7]);
    body.extend_from_slice(&offset.to_be_bytes());
    body.extend_from_slice(&(data.len() as u32).to_be_bytes());
    body.extend_from_slice(data);
    packet(6, &body)
}

#[test]
fn packets_come_whole_however_they_are_cut() {
    let mut stream = packet(1, &3u32.to_be_bytes());
    for at in 0..20u8 {
        stream.extend(write(u32::from(at), u64::from(at) * 1000, &vec![at; usize::from(at) * 100]));
    }
    for step in [1, 2, 3, 7, 64, 1000, stream.len()] {
        let mut assembler = Assembler::default();
        let mut read = Vec::new();
        for piece in stream.chunks(step) {
            assembler.push(Bytes::copy_from_slice(piece));
            while let Some(packet) = assembler.next_packet().unwrap() {
                read.push(Request::parse(packet).unwrap());
            }
        }
        assert_eq!(assembler.held_bytes(), 0);
        assert_eq!(read[0], Request::Init { version: 3 });
        for (at, request) in read[1..].iter().enumerate() {
            let data = vec![at as u8; at * 100].into();
            let what = What::Write { handle: 7, offset: at as u64 * 1000, data };
            assert_eq!(*request, Request::Asked { id: at as u32, what });
        }
    }
}

#[test]
fn a_packet_that_comes_in_crumbs_is_not_held_as_crumbs() {
    let stream = write(1, 0, &vec![9; 200_000]);
    let mut assembler = Assembler::default();
    for byte in &stream[..stream.len() - 1] {
        // As a connection gives them: a small part of a buffer that it keeps.
        assembler.push(Bytes::from(vec![*byte; 100]).slice(..1));
        assert_eq!(assembler.next_packet(), Ok(None));
        assert!(assembler.pieces.len() <= MOST_PIECES, "{} pieces", assembler.pieces.len());
    }
    assembler.push(Bytes::copy_from_slice(&stream[stream.len() - 1..]));
    assert_eq!(assembler.next_packet().unwrap().unwrap(), stream[LENGTH_BYTES..]);
    assert_eq!(assembler.held_bytes(), 0);
}

#[test]
fn a_packet_in_one_piece_is_not_copied() {
    let stream = Bytes::from(write(1, 0, &[9; 5000]));
    let mut assembler = Assembler::default();
    assembler.push(stream.clone());
    let Request::Asked { what: What::Write { data, .. }, .. } =
        Request::parse(assembler.next_packet().unwrap().unwrap()).unwrap()
    else {
        panic!("is a WRITE")
    };
    assert_eq!(data.as_ptr(), stream[stream.len() - 5000..].as_ptr());
}

#[test]
fn broken_packets_are_told() {
    let mut assembler = Assembler::default();
    assembler.push(Bytes::from_static(&[0, 4, 0, 1]));
    assert_eq!(assembler.next_packet(), Err(Broken::TooLong(0x40001)), "before any of it is kept");
    let mut assembler = Assembler::default();
    assembler.push(Bytes::from_static(&[0, 0, 0, 0, 1]));
    assert_eq!(assembler.next_packet(), Err(Broken::Empty));
    for (body, id) in [(&[][..], None), (&[0, 0, 0][..], None), (&[0, 0, 0, 5][..], Some(5))] {
        let mut packet = vec![3];
        packet.extend_from_slice(body);
        assert_eq!(Request::parse(packet.into()), Err(Broken::Short { kind: 3, id }));
    }
    // A string that says it is longer than all that came.
    let hostile = b"\x03\0\0\0\x01\xff\xff\xff\xffa";
    assert_eq!(Request::parse(Bytes::from_static(hostile)), Err(Broken::Short { kind: 3, id: Some(1) }));
}

#[test]
fn attributes_come_back_as_they_went() {
    let all = Attributes { size: Some(1 << 40), owner: Some((1, 2)), mode: Some(0o100_600), times: Some((3, 4)) };
    for attributes in [all, Attributes::default(), Attributes { owner: None, ..all }] {
        let reply = Reply::attributes(9, &attributes);
        let mut body = reply.slice(9..);
        assert_eq!(Attributes::read(&mut body), Some(attributes));
        assert!(body.is_empty());
    }
}

#[test]
fn data_has_its_lengths() {
    assert_eq!(&Reply::data(5, b"0123456")[..], b"\0\0\0\x10\x67\0\0\0\x05\0\0\0\x070123456");
}

/// Fields of a request, mostly as they should be.
fn fields(kind: u8, random: &mut StdRng) -> Vec<u8> {
    let mut body = random.random::<u32>().to_be_bytes().to_vec();
    let string = |body: &mut Vec<u8>, bytes: &[u8]| {
        body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        body.extend_from_slice(bytes);
    };
    const NAMES: [&[u8]; 8] = [
        b"a.hl7",
        b"",
        b"../x",
        b"\xff\0",
        b"posix-rename@openssh.com",
        b"fsync@openssh.com",
        b"statvfs@openssh.com",
        b"limits@openssh.com",
    ];
    for _ in 0..random.random_range(0..4) {
        match random.random_range(0..5) {
            0 => string(&mut body, NAMES[random.random_range(0..NAMES.len())]),
            1 => string(&mut body, &random.random::<u32>().to_be_bytes()),
            2 if kind == 6 => string(&mut body, &vec![7; random.random_range(0..3000)]),
            2 => body.extend_from_slice(&(random.random::<u32>() & 0x8000_000f).to_be_bytes()),
            3 => body.extend_from_slice(&random.random::<u64>().to_be_bytes()),
            _ => body.extend_from_slice(&random.random_range(0..40_u32).to_be_bytes()),
        }
    }
    body
}

fn hostile(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(0..8) {
        let kind = if random.random_range(0..10) > 0 { random.random_range(1..21) } else { random.random() };
        let kind = if random.random_range(0..8) == 0 { 200 } else { kind };
        let body = fields(kind, random);
        bytes.extend(packet(kind, &body));
    }
    for _ in 0..random.random_range(0..6_u32).saturating_sub(2) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 => bytes.insert(at, random.random()),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, (random.random::<u32>() >> random.random_range(0..32)).to_be_bytes())),
            4 => bytes.extend_from_slice(&((MAX_PACKET_BYTES as u32) - 1 + random.random_range(0..3)).to_be_bytes()),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
        }
    }
    bytes
}

/// The packets in these bytes, seen all at once.
fn plainly(mut bytes: &[u8]) -> (Vec<&[u8]>, Option<Broken>) {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length);
        match length as usize {
            0 => return (found, Some(Broken::Empty)),
            1..=MAX_PACKET_BYTES if length as usize <= rest.len() => {}
            1..=MAX_PACKET_BYTES => break,
            _ => return (found, Some(Broken::TooLong(length))),
        }
        let (packet, rest) = rest.split_at(length as usize);
        found.push(packet);
        bytes = rest;
    }
    (found, None)
}

/// The bytes that a request keeps of what came.
fn keeps(request: &Request) -> usize {
    match request {
        Request::Asked { what: What::Write { data, .. }, .. } => data.len(),
        Request::Asked { what: What::Rename { from, to }, .. } => from.len() + to.len(),
        Request::Asked { what: What::Open { path, .. } | What::Stat { path } | What::Mkdir { path }, .. } => path.len(),
        _ => 0,
    }
}

/// Any bytes in any pieces: no panic, bounded memory, and the packets are those of a plain reader that
/// sees all at once. `FOREBAY_FUZZ_INPUTS` says how many inputs, `FOREBAY_FUZZ_SEED` which.
#[test]
fn fuzz_any_bytes_are_read() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("FOREBAY_FUZZ_SEED").unwrap_or_else(rand::random);
    let inputs = number("FOREBAY_FUZZ_INPUTS").unwrap_or(20_000);
    println!("seed {seed}, {inputs} inputs");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut packets, mut requests, mut most) = (0_u64, 0_u64, 0);
    for _ in 0..inputs {
        let bytes = hostile(&mut random);
        let (expected, broken) = plainly(&bytes);
        let (mut assembler, mut found, mut ended) = (Assembler::default(), 0, None);
        let mut rest = &bytes[..];
        while !rest.is_empty() && ended.is_none() {
            let (piece, later) = rest.split_at(random.random_range(1..=rest.len()));
            rest = later;
            assembler.push(Bytes::copy_from_slice(piece));
            loop {
                match assembler.next_packet() {
                    Ok(Some(packet)) => {
                        assert_eq!(packet, expected[found], "seed {seed}: {bytes:?}");
                        found += 1;
                        let length = packet.len();
                        if let Ok(request) = Request::parse(packet) {
                            assert!(keeps(&request) <= length, "seed {seed}: {bytes:?}");
                            requests += 1;
                        }
                    }
                    Ok(None) => break,
                    Err(why) => {
                        ended = Some(why);
                        break;
                    }
                }
            }
            most = most.max(assembler.held_bytes());
            assert!(assembler.held_bytes() <= MAX_PACKET_BYTES + LENGTH_BYTES + piece.len(), "seed {seed}");
        }
        assert_eq!((found, ended), (expected.len(), broken), "seed {seed}: {bytes:?}");
        packets += found as u64;
    }
    println!("{packets} packets, {requests} of them requests, at most {most} bytes held");
}

//! The rules as tables of small files; each read in pieces of every size, and compared with a reader that is slow and plain.

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{
    finder::ID_BYTES,
    header::{Surroundings, kind},
    inspect::{Fault, Limits, inspect},
    split::{Count, FS, Kind, LEAST_BUFFER, SplitError, VT, split_in},
    tail::{BOM, first_solid, is_blank},
};

/// A unit of a file that is small enough to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whole {
    kind: Kind,
    bytes: Vec<u8>,
    segments: u64,
    continued: u64,
}

/// Gives at most so many bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.1).min(self.0.len());
        let (now, rest) = self.0.split_at(most);
        buffer[..most].copy_from_slice(now);
        self.0 = rest;
        Ok(most)
    }
}

fn units_in(file: &[u8], buffer: usize, piece: usize) -> Vec<Whole> {
    let (mut units, mut at) = (Vec::new(), 0);
    let done = split_in(Trickle(file, piece), Count::Lines, buffer, &mut |unit| {
        assert_eq!(unit.range.start, at, "a unit begins where the one before it ended");
        assert!(unit.range.end > at, "no unit is empty");
        at = unit.range.end;
        let range = usize::try_from(unit.range.start).unwrap()..usize::try_from(unit.range.end).unwrap();
        let bytes = file[range].to_vec();
        assert!(bytes.starts_with(unit.line), "{unit:?}");
        let lines = unit.lines.unwrap_or_default();
        units.push(Whole { kind: unit.kind, bytes, segments: lines.segments, continued: lines.continued });
        ControlFlow::Continue(())
    });
    done.expect("split");
    assert_eq!(at, file.len() as u64, "the units are the file");
    units
}

/// Reads byte by byte, with the whole file at hand and no thought of speed.
fn plain(file: &[u8]) -> Vec<(Kind, usize, usize)> {
    let mut marks = Vec::new();
    let (mut around, mut line, mut has_vt, mut at) = (Surroundings::default(), Some(0), false, 0);
    while at < file.len() {
        let byte = file[at];
        if around.in_frame && byte == FS {
            marks.push((None, at, at));
            around.in_frame = false;
            (line, has_vt, at) = (Some(at + 1), false, at + 1);
            continue;
        }
        if let Some(start) = line {
            let here = Surroundings { in_frame: around.in_frame || has_vt, ..around };
            if let Some(kind) = kind(&file[at..], here) {
                around = here;
                let separator = file.get(at + ID_BYTES).copied();
                match kind {
                    Kind::FileHeader => around.open = [separator, None],
                    Kind::BatchHeader => around.open[1] = separator,
                    Kind::BatchTrailer => around.open[1] = None,
                    Kind::FileTrailer => around.open = [None; 2],
                    _ => {}
                }
                marks.push((Some(kind), start, at));
                (line, has_vt, at) = (None, false, at + ID_BYTES);
                continue;
            }
        }
        match byte {
            b'\r' | b'\n' => (line, has_vt) = (Some(at + 1), false),
            VT => has_vt = true,
            byte if is_blank(byte) => {}
            _ if line.is_some() && file[at..].starts_with(BOM) => at += BOM.len() - 1,
            _ => line = None,
        }
        at += 1;
    }
    units_of(file, &marks)
}

/// From where things begin to what they are.
fn units_of(file: &[u8], marks: &[(Option<Kind>, usize, usize)]) -> Vec<(Kind, usize, usize)> {
    let mut units = Vec::new();
    let mut gap = 0;
    for (index, (kind, _, at)) in marks.iter().enumerate() {
        let next = marks.get(index + 1).map_or(file.len(), |(_, start, _)| *start);
        let is_last = index + 1 == marks.len();
        let Some(kind) = kind else { continue };
        units.push((Kind::Blank, gap, *at));
        let line = file[*at..next].iter().position(|byte| matches!(byte, b'\r' | b'\n')).map(|end| at + end);
        let end = match line {
            None => at + behind_solid(&file[*at..next], is_last),
            Some(line) if *kind != Kind::Message => behind_line_end(file, line, true),
            Some(line) => {
                let takes_lf = behind_line_end(file, line, true) > line + 1 || file[line] == b'\n';
                let solid = at + behind_solid(&file[*at..next], is_last).max(line - at);
                match file[solid..next].iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
                    None => solid,
                    Some(more) if file[solid + more] == b'\n' && !takes_lf => solid + more,
                    Some(more) => behind_line_end(file, solid + more, takes_lf),
                }
            }
        };
        units.push((*kind, *at, end));
        gap = end;
    }
    units.push((Kind::Blank, gap, file.len()));
    units.retain(|(_, start, end)| start < end);
    units
}

fn behind_line_end(file: &[u8], at: usize, takes_lf: bool) -> usize {
    if takes_lf && file[at..].starts_with(b"\r\n") { at + 2 } else { at + 1 }
}

/// The length without what is blank at the end.
fn behind_solid(bytes: &[u8], is_last: bool) -> usize {
    (0..=bytes.len())
        .find(|from| {
            // Whatever follows from here on is blank.
            let rest: Vec<u8> =
                bytes[*from..].iter().map(|byte| if is_last && *byte == 0x1a { b' ' } else { *byte }).collect();
            first_solid(&rest).is_none()
        })
        .unwrap_or(bytes.len())
}

fn check(file: &[u8]) {
    for (buffer, piece) in [(4 << 10, 4 << 10), (LEAST_BUFFER, 1), (LEAST_BUFFER + 7, 1 << 16), (64, 3)] {
        let units = units_in(file, buffer, piece);
        let (mut at, mut found) = (0, Vec::new());
        for unit in &units {
            let end = at + unit.bytes.len();
            let kind = if unit.kind == Kind::Outside { Kind::Blank } else { unit.kind };
            match found.last_mut() {
                // Of a gap, only where it is.
                Some((Kind::Blank, _, last)) if kind == Kind::Blank => *last = end,
                _ => found.push((kind, at, end)),
            }
            at = end;
        }
        assert_eq!(found, plain(file), "buffer {buffer}, pieces of {piece}: {:?}", String::from_utf8_lossy(file));
        assert_eq!(units, units_in(file, 8 << 10, 8 << 10), "{:?}", String::from_utf8_lossy(file));
    }
}

/// The messages of a file, with the other kinds in one letter: `F`, `B`, `b`, `f`, `.` for blank, `?` for outside.
fn picture(file: &[u8]) -> String {
    check(file);
    let shown = |unit: &Whole| match unit.kind {
        Kind::FileHeader => "F".to_owned(),
        Kind::BatchHeader => "B".to_owned(),
        Kind::BatchTrailer => "b".to_owned(),
        Kind::FileTrailer => "f".to_owned(),
        Kind::Blank => ".".to_owned(),
        Kind::Outside => format!("?{}", String::from_utf8_lossy(&unit.bytes)),
        Kind::Message => format!("[{}]", String::from_utf8_lossy(&unit.bytes)),
    };
    units_in(file, 8 << 10, 8 << 10).iter().map(shown).collect::<String>().replace('\r', "/").replace('\n', "_")
}

#[test]
fn units_are_found() {
    for (file, expected) in [
        // One message, whatever ends its lines.
        ("MSH|^~\\&|A\rPID|1\r", "[MSH|^~\\&|A/PID|1/]"),
        ("MSH|^~\\&|A\nPID|1\n", "[MSH|^~\\&|A_PID|1_]"),
        ("MSH|^~\\&|A\r\nPID|1\r\n", "[MSH|^~\\&|A/_PID|1/_]"),
        ("MSH|^~\\&|A", "[MSH|^~\\&|A]"),
        // Two, joined by nothing, by LF after CR messages, and by blank lines, which end nothing.
        ("MSH|1\rMSH|2\r", "[MSH|1/][MSH|2/]"),
        ("MSH|1\rPID|\r\nMSH|2\r", "[MSH|1/PID|/].[MSH|2/]"),
        ("MSH|1\rPID|x\nMSH|2\r", "[MSH|1/PID|x].[MSH|2/]"),
        ("MSH|1\n\nPID|\n\n\nMSH|2\n", "[MSH|1__PID|_].[MSH|2_]"),
        // A blank and more before a header; a BOM between two.
        (" \t\u{c}\0MSH|1\r", ".[MSH|1/]"),
        ("\u{feff}MSH|1\r\u{feff} MSH|2\r", ".[MSH|1/].[MSH|2/]"),
        // Text is no header: in the middle of a line, or without its signs.
        ("MSH|1\rNTE|see MSH|2\r", "[MSH|1/NTE|see MSH|2/]"),
        ("MSH|1\rMSH:9 is missing\r", "[MSH|1/MSH:9 is missing/]"),
        ("MSH^~\\&#^A\rPID^\r", "[MSH^~\\&#^A/PID^/]"),
        // Envelopes, each with its own separator.
        ("FHS|^~\\&\rBHS|^~\\&\rMSH|1\rBTS|1\rFTS|1\r", "FB[MSH|1/]bf"),
        ("FHS#^~\\&#\rBHS$^~\\&$\rMSH|1\rBTS$1\rFTS#1\r", "FB[MSH|1/]bf"),
        ("BHS$^~\\&$\rMSH|1\rBTS#1\rBTS\r", "B[MSH|1/BTS#1/]b"),
        ("FHS|\rFTS|0\r\r\n", "Ff."),
        // What belongs to nothing.
        ("hello\rMSH|1\r", "?hello.[MSH|1/]"),
        ("BHS|\rPID|lost its MSH\rMSH|1\rBTS|1\rmore\r", "B?PID|lost its MSH.[MSH|1/]b?more."),
        // Padding at the end, and 0x1A, which is data elsewhere.
        ("MSH|1\r\0\0\u{1a}\0", "[MSH|1/]."),
        ("MSH|1\rPID|a\u{1a}\rMSH|2\u{1a}", "[MSH|1/PID|a\u{1a}/][MSH|2]."),
        ("FHS|\rFTS|\r\u{1a}", "Ff."),
        ("FHS|\rFTS|\r\u{1a}x", "Ff?\u{1a}x"),
        // Frames: FS counts in one that VT began, and a line begins behind it.
        ("\u{b}MSH|1\rPID|\r\u{1c}\r\u{b}MSH|2\r\u{1c}\r", ".[MSH|1/PID|/].[MSH|2/]."),
        ("\u{b}MSH|1\r\u{1c}MSH|2\r", ".[MSH|1/].[MSH|2/]"),
        ("\u{b}MSH|1\r\u{1c}\rPID|\r", ".[MSH|1/].?PID|."),
        ("MSH|1\rPID|a\u{1c}b\u{b}c\u{85}d\u{2028}e\r", "[MSH|1/PID|a\u{1c}b\u{b}c\u{85}d\u{2028}e/]"),
        ("\u{b}FHS|\rMSH|1\rFTS|\r\u{1c}\r", ".F[MSH|1/]f."),
        ("\u{b}MSH|1\u{1c}", ".[MSH|1]."),
        ("", ""),
        ("\r\n\r\n", "."),
    ] {
        assert_eq!(picture(file.as_bytes()), expected, "{file:?}");
    }
}

#[test]
fn lines_are_counted_as_the_first_one_ends() {
    for (file, segments, continued) in [
        ("MSH|1\rPID|1\rOBX|a\nb\r", 3, 0),
        ("MSH|1\nPID|1\nOBX|a\nb and\nc\n", 3, 2),
        ("MSH|1\r\nPID|1\r\n\r\nZZ1|x", 3, 0),
        ("MSH|1", 1, 0),
        ("MSH#~#1\nPID#\nPID|\n", 2, 1),
        ("MSH|1\n\u{feff}\n  \n", 1, 0),
    ] {
        check(file.as_bytes());
        let units = units_in(file.as_bytes(), 1 << 16, 1 << 16);
        assert_eq!((units[0].segments, units[0].continued), (segments, continued), "{file:?}");
    }
}

#[test]
fn a_header_is_found_at_every_place_around_a_buffers_edge() {
    for prefix in ["", " ", "\u{b}", "\u{feff}", "\0\u{feff}\t"] {
        for before in 0..3 * LEAST_BUFFER {
            let text = format!("MSH|{}\r{prefix}MSH^~\\&^2\r\nPID^", "x".repeat(before));
            check(text.as_bytes());
            let padded = format!("{}{prefix}MSH|1\r", "\0".repeat(before));
            check(padded.as_bytes());
            let framed = format!("\u{b}MSH|{}\r\u{1c}{prefix}FHS|\n", "x".repeat(before));
            check(framed.as_bytes());
        }
    }
}

#[test]
fn utf_16_is_refused_by_name() {
    let wide = |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<_>>();
    for file in [
        wide("\u{feff}MSH|", u16::to_le_bytes),
        wide("\u{feff}MSH|", u16::to_be_bytes),
        wide("MSH|^~\\&", u16::to_le_bytes),
        wide("FHS|^~\\&", u16::to_be_bytes),
    ] {
        let done = split_in(&file[..], Count::Units, 1 << 16, &mut |_| ControlFlow::Continue(()));
        assert!(matches!(done, Err(SplitError::Utf16)), "{file:?}");
        assert_eq!(inspect(&file[..], Limits::default()).unwrap().faults, [Fault::Utf16]);
    }
}

#[test]
fn it_stops_when_it_is_told_to() {
    let file = b"MSH|1\rMSH|2\rMSH|3\r";
    let mut seen = 0;
    let done = split_in(&file[..], Count::Units, 64, &mut |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(done.is_ok() && seen == 2);
}

#[test]
fn a_line_without_end_costs_no_memory_and_its_first_fields_are_known() {
    let mut file = b"MSH|^~\\&|A|B|C|D|2026||VXU^V04|M1|P|2.5.1|".to_vec();
    file.resize(3 << 20, b'x');
    let mut lengths = Vec::new();
    split_in(&file[..], Count::Lines, 1 << 16, &mut |unit| {
        assert_eq!(unit.header().unwrap().field(10), b"M1");
        lengths.push((unit.line.len(), unit.range.end));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(lengths, [(64 << 10, 3 << 20)]);
}

const M: &str = "MSH|^~\\&|A|B|C|D|2026||VXU^V04|";

fn faults(file: &str) -> Vec<Fault> {
    inspect(file.as_bytes(), Limits { max_message: 1_000 }).unwrap().faults
}

#[test]
fn a_file_is_judged_as_a_whole() {
    let good = format!("FHS|^~\\&\rBHS|^~\\&\r{M}M1|P|2.5.1\r{M}M2|P|2.5.1\rPID|1\rBTS|2\rFTS|1\r");
    let report = inspect(good.as_bytes(), Limits::default()).unwrap();
    assert_eq!((report.faults, report.format), (Vec::new(), Some("hl7v2")));
    assert_eq!((report.messages, report.files, report.batches, report.segments), (2, 1, 1, 3));
    assert_eq!((report.file_trailers, report.batch_trailers), (1, 1));
    assert_eq!(report.bytes, good.len() as u64);
    assert_eq!(faults("FHS|\rBHS|\rBTS|0\rFTS|1\r"), [], "no message is no fault");
    assert_eq!(faults("FHS|\rBHS|\rBTS|\rFTS\r"), [], "nor is a trailer that does not count");
    assert_eq!(faults(&format!("FHS|\r{M}M1|P|2.5.1\rFTS|1\r")), []);
    assert_eq!(faults(""), [Fault::NoHeader]);
    assert_eq!(faults("PID|1\rBTS|1\r"), [Fault::NoHeader]);
    assert_eq!(faults("BHS|\rBTS|7\r"), [Fault::Count { trailer: "BTS", at: 5, said: "7".into(), found: 0 }]);
    assert_eq!(faults("BHS|\rBTS|x\r"), [Fault::Count { trailer: "BTS", at: 5, said: "x".into(), found: 0 }]);
    assert_eq!(
        faults("FHS|\rBHS|\rBHS|\rBTS|0\r"),
        [Fault::NoTrailer { header: "BHS", at: 5 }, Fault::NoTrailer { header: "FHS", at: 0 }]
    );
    assert_eq!(
        faults("FHS|\rBTS|1\rFTS|0\rFTS|0\r"),
        [Fault::NoHeaderFor { trailer: "BTS", at: 5 }, Fault::NoHeaderFor { trailer: "FTS", at: 17 }]
    );
    assert_eq!(faults("xyz\rFHS|\rFTS|0\r"), [Fault::Outside { at: 0, bytes: 3 }]);
    assert_eq!(
        faults("MSH|^~\\&|A|B|C|D|2026||^V04||P\r"),
        [9, 10, 12].map(|field| Fault::Missing { message: 1, field })
    );
    assert_eq!(
        faults(&format!("{M}M1|P|2.3\n{M}M1|P|2.3\nx\n")),
        [Fault::Repeated { message: 2, control_id: "M1".into() }, Fault::Continued { message: 2, lines: 1 }]
    );
    let long = format!("{M}M1|P|2.3\r{M}M2|P|2.3\rOBX|{}\r", "x".repeat(2_000));
    assert!(matches!(faults(&long)[..], [Fault::TooLong { message: 2, bytes: 2_000.. }]));
}

#[test]
fn faults_without_end_are_counted_and_not_kept() {
    let file = "BTS|1\r".repeat(5_000) + "FHS|\rFTS|\r";
    let report = inspect(file.as_bytes(), Limits::default()).unwrap();
    assert_eq!((report.fault_count, report.faults.len()), (5_000, 1_000));
}

/// Bytes that are likely to mean something, in any order.
fn hostile(rng: &mut StdRng) -> Vec<u8> {
    const PARTS: [&[u8]; 27] = [
        b"MSH|",
        b"MSH",
        b"FHS|",
        b"BHS|",
        b"BTS|",
        b"FTS|",
        b"BTS",
        b"FTS",
        b"MSH^~\\&^",
        b"FHS#~#",
        b"BHS$~\\$",
        b"BTS$",
        b"FTS#",
        b"\r",
        b"\n",
        b"\r\n",
        b"\x0b",
        b"\x1c",
        b"\x1a",
        b"\0",
        b" ",
        BOM,
        b"\xef",
        b"\xbb\xbf",
        b"x",
        b"PID|",
        b"|",
    ];
    let mut file = Vec::new();
    for _ in 0..rng.random_range(0..40) {
        match rng.random_bool(0.05) {
            true => file.push(rng.random()),
            false => file.extend_from_slice(PARTS.choose(rng).expect("not empty")),
        }
    }
    file
}

/// Fifty thousand files unless `FOREBAY_INPUTS` says otherwise; `FOREBAY_SEED` repeats a run.
#[test]
fn hostile_files_are_split_alike_in_all_pieces_and_lose_no_byte() {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = given("FOREBAY_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..given("FOREBAY_INPUTS").unwrap_or(50_000) {
        let file = hostile(&mut rng);
        if split_in(&file[..], Count::Units, 64, &mut |_| ControlFlow::Continue(())).is_ok() {
            check(&file);
        }
        inspect(&file[..], Limits::default()).expect("a slice can be read");
    }
}

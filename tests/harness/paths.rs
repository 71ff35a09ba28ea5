//! Paths that are none of the partner's own.

use std::path::Path;

/// Each that leads out, or would where somebody takes its bytes for something else. `secret` is a file that is there. None is a
/// file of the machine's own that could be hurt were one to lead there.
pub fn hostile(secret: &Path) -> Vec<Vec<u8>> {
    let absolute = secret.display().to_string();
    let mut paths: Vec<Vec<u8>> = [
        "..",
        "../Other/secret",
        "../../elsewhere/secret",
        "x/../../Other/secret",
        "./../Other/secret",
        "//../Other/secret",
        "..//..//elsewhere/secret",
        "linked/secret",
        "linked/../../elsewhere/secret",
        "etc/passwd",
        "other/secret",
        "other/new",
        "/other/secret",
        "out/../../Other/secret",
        "..\\Other\\secret",
        "~/secret",
        "~root",
        "mine.hl7/../../Other/secret",
        "%2e%2e/Other/secret",
        "....//Other/secret",
        "/proc/self/environ",
        &absolute,
    ]
    .iter()
    .map(|path| path.as_bytes().to_vec())
    .collect();
    paths.extend([
        b"nul\0../Other/secret".to_vec(),
        b"mine.hl7\0.txt".to_vec(),
        b"\xc0\xae\xc0\xae/Other/secret".to_vec(),
        b"\xed\xa0\x80".to_vec(),
        b"latin\xe4".to_vec(),
        b"\xff\xfe".to_vec(),
        b"cr\rDELE mine.hl7".to_vec(),
        b"esc\x1b[2J\x1b]0;title\x07".to_vec(),
        b"\x7f".to_vec(),
        "c1\u{9b}31m".as_bytes().to_vec(),
        vec![b'n'; 256],
        vec![b'n'; 4080],
        vec![b'n'; 4096],
        b"d/".repeat(600),
        b"../".repeat(1300),
        "\u{fffd}".repeat(400).into_bytes(),
    ]);
    paths
}

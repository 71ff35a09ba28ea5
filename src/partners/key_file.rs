//! A file with a public key, in whatever form people have it: the one line that OpenSSH would have written.

use russh::keys::PublicKey;

use super::key::BadKey;

/// Kinds of keys, as a line begins with them.
const KINDS: [&str; 5] =
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];
const RFC_4716_BEGIN: &str = "---- BEGIN SSH2 PUBLIC KEY ----";
const RFC_4716_END: &str = "---- END SSH2 PUBLIC KEY ----";

/// Files that hold something else, by a text that only they have, and what to do with them.
const OTHERS: [(&str, &str); 9] = [
    ("PuTTY-User-Key-File", "is PuTTY's private key: open it in PuTTYgen and give what it shows for pasting"),
    ("PRIVATE KEY", "holds a private key: give the public one, which ends with .pub"),
    (
        "BEGIN RSA PUBLIC KEY",
        "is a public key in PEM (PKCS#1): `ssh-keygen -i -m PEM -f FILE` gives it in OpenSSH's form",
    ),
    ("BEGIN PUBLIC KEY", "is a public key in PEM: `ssh-keygen -i -m PKCS8 -f FILE` gives it in OpenSSH's form"),
    ("BEGIN CERTIFICATE REQUEST", "is a request for a certificate, and no key of SSH: `ssh-keygen` makes one"),
    ("BEGIN CERTIFICATE", "is a certificate of TLS, and no key of SSH: for FTPS see [ftp] client_ca"),
    ("BEGIN PGP", "is a key of PGP, and none of SSH: `ssh-keygen` makes one"),
    (
        "-cert-v01@openssh.com",
        "is a certificate: what it is of is trusted by [sftp] trusted_ca, not added to a partner",
    ),
    ("sk-ssh-", "is the key of a security key, which are not served: `ssh-keygen -t ed25519` makes another"),
];

/// The one key of a file, as a line in OpenSSH's form. Taken are OpenSSH's form, also when it was broken over lines, and
/// that of RFC 4716, which PuTTYgen saves. Lines with `#` and empty ones say nothing.
///
/// # Errors
/// A sentence that begins behind the file's name.
pub fn one_key(text: &str) -> Result<String, BadKey> {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    // A comment may be of any words: only what is no key by itself is looked through for them.
    match lines.as_slice() {
        [] => return Err(bad("holds no key")),
        [line] if other(line).is_none() => return Ok((*line).to_owned()),
        _ => {}
    }
    // Before other marks are looked for: this form is taken.
    if lines[0].starts_with(RFC_4716_BEGIN) {
        return rfc_4716(&lines);
    }
    if let Some(what) = other(text) {
        return Err(bad(what));
    }
    if lines.iter().filter(|line| begins_key(line)).count() > 1 {
        return Err(bad("holds more than one key: add them one by one"));
    }
    joined(&lines).ok_or_else(|| {
        bad("holds several lines that make no key: give one line as `ssh-keygen -y` prints it (\"ssh-ed25519 AAAA… comment\")")
    })
}

/// What the text is, if it is known and no public key in a form that is taken.
fn other(text: &str) -> Option<&'static str> {
    let is_key = |line: &str| kind_of(line).is_some_and(|at| PublicKey::from_openssh(&line[at..]).is_ok());
    if text.lines().count() == 1 && is_key(text) {
        return None;
    }
    OTHERS.iter().find(|(mark, _)| text.contains(mark)).map(|(_, what)| *what)
}

/// Where in the line the kind of a key stands, behind options.
fn kind_of(line: &str) -> Option<usize> {
    let words = line.split([' ', '\t']).scan(0, |at, word| {
        let begin = *at;
        *at += word.len() + 1;
        Some((begin, word))
    });
    words.into_iter().find(|(_, word)| KINDS.contains(word)).map(|(at, _)| at)
}

fn begins_key(line: &str) -> bool {
    // The comment of a key may name a kind too; what begins a line does not.
    KINDS.iter().any(|kind| line.starts_with(kind)) || (line.contains('=') && kind_of(line).is_some())
}

/// A key in OpenSSH's form that was broken over lines. The shortest run of words behind its kind that is a whole key is
/// the key; what follows is the comment. So no break can be read in two ways.
fn joined(lines: &[&str]) -> Option<String> {
    let at = kind_of(lines[0])?;
    let (options, first) = lines[0].split_at(at);
    let mut words = first.split_whitespace().chain(lines[1..].iter().flat_map(|line| line.split_whitespace()));
    let kind = words.next()?;
    let mut blob = String::new();
    while let Some(word) = words.next() {
        blob.push_str(word);
        if PublicKey::from_openssh(&format!("{kind} {blob}")).is_ok() {
            let rest: Vec<_> = std::iter::once(blob.as_str()).chain(words).collect();
            return Some(format!("{options}{kind} {}", rest.join(" ")));
        }
    }
    None
}

/// RFC 4716: headers, which a backslash carries on to the next line, and the key.
fn rfc_4716(lines: &[&str]) -> Result<String, BadKey> {
    let end = lines.iter().position(|line| line.starts_with(RFC_4716_END));
    let end = end.ok_or_else(|| bad("is a public key in RFC 4716's form without its end: it was cut"))?;
    if lines.len() > end + 1 {
        return Err(bad("holds more than one key: add them one by one"));
    }
    let (mut comment, mut blob) = (String::new(), String::new());
    let mut inner = lines[1..end].iter();
    while let Some(line) = inner.next() {
        // Headers have a colon, which base64 has not (RFC 4716, 3.3).
        let Some((name, value)) = line.split_once(':') else {
            blob.push_str(line);
            continue;
        };
        let mut value = value.trim().to_owned();
        while let Some(begun) = value.strip_suffix('\\') {
            value = format!("{begun}{}", inner.next().copied().unwrap_or_default());
        }
        if name.eq_ignore_ascii_case("comment") {
            comment = value.trim_matches('"').to_owned();
        }
    }
    let line = |kind: &&str| format!("{kind} {blob} {comment}").trim_end().to_owned();
    // The form does not say the kind in clear: it is tried which one the key is of.
    let found = KINDS.iter().map(line).find(|line| PublicKey::from_openssh(line).is_ok());
    found.ok_or_else(|| {
        bad("is a public key in RFC 4716's form that cannot be read: `ssh-keygen -i -f FILE` says what is wrong with it")
    })
}

fn bad(what: &str) -> BadKey {
    BadKey(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn line(comment: &str) -> String {
        format!("ssh-ed25519 {BLOB}{comment}")
    }

    #[test]
    fn every_form_that_can_be_read_in_one_way_is_taken() {
        let (head, tail) = BLOB.split_at(30);
        for text in [
            line(" me@there"),
            format!("# mine\r\n\r\n{}\r\n", line(" me@there")),
            format!("ssh-ed25519 {head}\n{tail} me@there\n"),
            format!("ssh-ed25519\r\n{head}\r\n{tail}\r\nme@there\r\n"),
            format!(
                "---- BEGIN SSH2 PUBLIC KEY ----\r\nComment: \"me@there\"\r\n{head}\r\n{tail}\r\n---- END SSH2 PUBLIC KEY ----\r\n"
            ),
            format!(
                "---- BEGIN SSH2 PUBLIC KEY ----\nSubject: x\nComment: me@\\\nthere\n{BLOB}\n---- END SSH2 PUBLIC KEY ----"
            ),
        ] {
            assert_eq!(one_key(&text).unwrap(), line(" me@there"), "{text}");
        }
        let limited = format!("from=\"10.0.0.0/8\" ssh-ed25519 {head}\n{tail}");
        assert_eq!(one_key(&limited).unwrap(), format!("from=\"10.0.0.0/8\" {}", line("")));
        assert_eq!(one_key(&line(" no ssh-rsa PRIVATE KEY here")).unwrap(), line(" no ssh-rsa PRIVATE KEY here"));
    }

    #[test]
    fn anything_else_is_told_for_what_it_is() {
        let two = format!("{}\n{}", line(" a"), line(" b"));
        let cut = &line("")[..60];
        for (text, why) in [
            ("# nothing", "holds no key"),
            (two.as_str(), "more than one key"),
            ("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "ssh-keygen -i -m PKCS8"),
            ("-----BEGIN RSA PUBLIC KEY-----\nMIIB\n-----END RSA PUBLIC KEY-----", "ssh-keygen -i -m PEM"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "private key"),
            ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none", "PuTTYgen"),
            ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "certificate of TLS"),
            ("ssh-ed25519-cert-v01@openssh.com AAAA", "trusted_ca"),
            (&format!("{cut}\nmore words"), "several lines"),
            ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA", "cut"),
            ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "ssh-keygen -i -f"),
        ] {
            let told = one_key(text).unwrap_err().to_string();
            assert!(told.contains(why), "{text:?}: {told}");
        }
    }
}

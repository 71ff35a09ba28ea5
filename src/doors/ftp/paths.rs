//! Which path a client means.

use super::reply::Reply;

/// The path below the login directory for a command that only looks: `..` goes up, and not beyond the top.
pub(super) fn looked_at(directory: &str, given: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if given.starts_with('/') { "" } else { directory };
    for part in base.split('/').chain(given.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The path for a command that changes something. A `..` is refused, not resolved: nobody writes so by intent.
pub(super) fn changed(directory: &str, given: &str) -> Result<String, Reply> {
    if given.split('/').any(|part| part == "..") {
        return Err(Reply::new(553, "Name has \"..\""));
    }
    Ok(looked_at(directory, given))
}

/// As 257 has it: quotes are doubled.
pub(super) fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('"', "\"\""))
}

/// What LIST was asked for: clients send options of ls.
pub(super) fn without_options(argument: &str) -> &str {
    let mut rest = argument;
    while let Some(option) = rest.strip_prefix('-') {
        match option.split_once(' ') {
            Some(("-", path)) => return path,
            Some((_, path)) => rest = path,
            None => return "",
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        for (directory, given, path) in [
            ("/", "a", "/a"),
            ("/in", "../a", "/a"),
            ("/in", "../../../etc/passwd", "/etc/passwd"),
            ("/in", "/b//./c/", "/b/c"),
            ("/in/deep", "..", "/in"),
            ("/in", "", "/in"),
            ("/", "..", "/"),
        ] {
            assert_eq!(looked_at(directory, given), path, "{directory} {given}");
        }
        assert!(changed("/in", "../a").is_err() && changed("/in", "a/../b").is_err());
        assert_eq!(changed("/in", "a..b").unwrap(), "/in/a..b");
    }

    #[test]
    fn options_are_no_path() {
        for (given, path) in [("-la", ""), ("-la in", "in"), ("-- -x", "-x"), ("in", "in"), ("-a -l a b", "a b")] {
            assert_eq!(without_options(given), path, "{given}");
        }
    }
}

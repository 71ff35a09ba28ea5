//! Paths as clients mean them: resolved against the working directory.
//!
//! The result begins with `/` and has no `.`, `..` or empty component. Whether it is a good name,
//! `ingest` decides.

/// The path below the login directory for a command that only looks: `..` goes up, and not beyond the top.
pub(in crate::doors) fn looked_at(directory: &str, given: &str) -> String {
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

/// The path for a command that changes something; none with a `..`, which is refused and not resolved: nobody writes so
/// by intent.
pub(in crate::doors) fn changed(directory: &str, given: &str) -> Option<String> {
    (!given.split('/').any(|part| part == "..")).then(|| looked_at(directory, given))
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
        assert!(changed("/in", "../a").is_none() && changed("/in", "a/../b").is_none());
        assert_eq!(changed("/in", "a..b").unwrap(), "/in/a..b");
    }
}

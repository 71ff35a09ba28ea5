//! Users of this machine, by name.

use std::fs;

/// The number of a user: as `/etc/passwd` has it, or the text itself if that is a number.
#[must_use]
pub fn uid_of(user: &str) -> Option<u32> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&passwd, user).or_else(|| user.parse().ok())
}

fn find(passwd: &str, user: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_or_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# odd\nforebay:x:998:997::/srv/forebay:/usr/sbin/nologin\n";
        assert_eq!((find(passwd, "forebay"), find(passwd, "fore")), (Some(998), None));
        assert_eq!((uid_of("64999"), uid_of("no such user"), uid_of("root")), (Some(64999), None, Some(0)));
    }
}

//! System users by name, for the audit trail.

use std::fs;

/// The user's name, as `/etc/passwd` has it, else `uid <number>`.
#[must_use]
pub fn name_of(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&passwd, uid).unwrap_or_else(|| format!("uid {uid}"))
}

/// The name of the user that runs this process.
#[must_use]
pub fn own_name() -> String {
    name_of(rustix::process::getuid().as_raw())
}

fn find(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let found: u32 = fields.nth(1)?.parse().ok()?;
        (found == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# odd\nforebay:x:998:998::/srv/forebay:/usr/sbin/nologin\n";
        assert_eq!(find(passwd, 998).as_deref(), Some("forebay"));
        assert_eq!(find(passwd, 7), None);
    }
}

//! Clients that partners use over SFTP: each uploads, goes on with what was cut where it can, lists, renames and
//! downloads. What was uploaded is compared by digest in the queue, what was downloaded byte by byte.
//!
//! `tests/run` installs the clients. docs/PARTNERS.md has the table of what works and how; OpenSSH's own sftp is in
//! `sftp_door.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use harness::{
    site::{PASSWORD, Site, USER, same, text},
    wait_until,
};

const LARGE: usize = 3_000_000;
const SMALL: usize = 20_000;
/// What OpenSSH's programs are told, so that they know nothing of this machine and ask nothing.
const SSH: [&str; 10] = [
    "-F",
    "none",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "PubkeyAuthentication=no",
    "-o",
    "LogLevel=ERROR",
];

fn here(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn port(site: &Site) -> String {
    site.machine.sftp.port().to_string()
}

/// Runs a script that is given where the server is and a file, and leaves three files.
fn scripted(site: &Site, program: &str, name: &str) {
    let (path, bytes) = site.source("whole.bin", LARGE);
    site.cut("in/cut.bin", &bytes[..1_234_567]);
    let script = here(&format!("tests/clients/{name}"));
    println!("{}", site.run(program, &[&script, "127.0.0.1", &port(site), USER, PASSWORD, text(&path)]).trim());
    for stored in ["whole.bin", "named.bin", "cut.bin"] {
        site.assert_kept(&format!("in/{stored}"), &bytes);
    }
    for n in 0..8 {
        site.assert_kept(&format!("in/parallel-{n}.bin"), &bytes[n..]);
    }
}

#[test]
fn curl() {
    // libssh2 knows no encrypt-then-MAC before 1.11.
    let site = Site::with("", "", "macs = [\"hmac-sha2-512-etm@openssh.com\", \"hmac-sha2-256\"]");
    println!("{}", site.run("curl", &["--version"]).lines().next().unwrap());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let login = format!("{USER}:{PASSWORD}");
    let curl = |arguments: &[&str]| {
        site.run("curl", &[&["--silent", "--show-error", "--insecure", "--user", &login], arguments].concat())
    };
    let url = |name: &str| format!("sftp://{}/in/{name}", site.machine.sftp);
    curl(&["--ftp-create-dirs", "--upload-file", text(&path), &url("whole.bin")]);
    site.assert_kept("in/whole.bin", &bytes);
    let rename = "-rename /in/named.part /in/named.bin";
    curl(&["--upload-file", text(&path), "--quote", rename, &url("named.part")]);
    site.assert_kept("in/named.bin", &bytes);

    site.cut("in/cut.bin", &bytes[..1_000_000]);
    curl(&["--continue-at", "-", "--upload-file", text(&path), &url("cut.bin")]);
    site.assert_kept("in/cut.bin", &bytes);

    let back = site.path("back.bin");
    curl(&["--output", text(&back), &url("whole.bin")]);
    same(&back, &bytes);
    fs::write(&back, &bytes[..999]).unwrap();
    curl(&["--continue-at", "-", "--output", text(&back), &url("whole.bin")]);
    same(&back, &bytes);
    curl(&["--range", "100-199", "--output", text(&back), &url("whole.bin")]);
    same(&back, &bytes[100..200]);
    assert!(curl(&["--list-only", &url("")]).contains("named.bin"));
}

#[test]
fn lftp() {
    let site = Site::open("");
    println!("{}", site.run("lftp", &["--version"]).lines().next().unwrap());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let tree: Vec<_> = (0..12).map(|n| (n, site.source(&format!("tree/d{}/f{n}.hl7", n % 4), SMALL + n).1)).collect();
    let tree_path = site.path("outgoing/tree");
    let opening = format!(
        "set cmd:fail-exit yes; set net:max-retries 2; set sftp:auto-confirm yes; \
         set sftp:connect-program \"ssh -a -x {}\"; open -u {USER},{PASSWORD} sftp://{}",
        SSH.join(" "),
        site.machine.sftp,
    );
    let lftp = |commands: &str| site.run("lftp", &["--norc", "-c", &format!("{opening}; {commands}")]);
    site.cut("in/cut.bin", &bytes[..1_000_000]);
    lftp(&format!(
        "cd in; put {0} -o whole.bin; put {0} -o named.part; mv named.part named.bin; put -c {0} -o cut.bin; \
         mirror --reverse --parallel=2 {1} tree",
        text(&path),
        text(&tree_path)
    ));
    for name in ["whole.bin", "named.bin", "cut.bin"] {
        site.assert_kept(&format!("in/{name}"), &bytes);
    }
    for (n, bytes) in &tree {
        site.assert_kept(&format!("in/tree/d{}/f{n}.hl7", n % 4), bytes);
    }
    // Nothing has changed, so nothing is sent again.
    let count = site.queue().len();
    lftp(&format!("cd in; mirror --reverse --ignore-time {} tree", text(&tree_path)));
    lftp(&format!("cd in; mirror --reverse {} tree", text(&tree_path)));
    assert_eq!(site.queue().len(), count);

    let back = site.path("back");
    fs::create_dir_all(&back).unwrap();
    lftp(&format!("lcd {}; cd in; get whole.bin; mirror tree", text(&back)));
    same(&back.join("whole.bin"), &bytes);
    for (n, bytes) in &tree {
        same(&back.join(format!("tree/d{}/f{n}.hl7", n % 4)), bytes);
    }
}

#[test]
fn rclone() {
    let site = Site::open("");
    println!("{}", site.run("rclone", &["version"]).lines().next().unwrap());
    let (_, bytes) = site.source("tree/whole.bin", LARGE);
    let small: Vec<_> = (0..12).map(|n| site.source(&format!("tree/d{}/f{n}.hl7", n % 3), SMALL + n).1).collect();
    let tree = site.path("outgoing/tree");
    let hidden = site.run("rclone", &["obscure", PASSWORD]);
    let port = port(&site);
    let mut options = vec!["--config", "", "--sftp-host", "127.0.0.1", "--sftp-port", &port, "--sftp-user", USER];
    options.extend(["--sftp-pass", hidden.trim(), "--retries", "1", "--low-level-retries", "1"]);
    let rclone = |arguments: &[&str], input: &str| site.run_with("rclone", &[&options, arguments].concat(), input);
    rclone(&["copy", text(&tree), ":sftp:in"], "");
    site.assert_kept("in/whole.bin", &bytes);
    for (n, bytes) in small.iter().enumerate() {
        site.assert_kept(&format!("in/d{}/f{n}.hl7", n % 3), bytes);
    }
    rclone(&["check", "--download", text(&tree), ":sftp:in"], "");
    rclone(&["rcat", ":sftp:in/piped.txt"], "from a pipe\n");
    site.assert_kept("in/piped.txt", b"from a pipe\n");
    let back = site.path("back");
    rclone(&["copy", ":sftp:in", text(&back)], "");
    same(&back.join("whole.bin"), &bytes);
    same(&back.join("piped.txt"), b"from a pipe\n");
    // What is there already is not sent again.
    let count = site.queue().len();
    rclone(&["copy", text(&tree), ":sftp:in"], "");
    assert_eq!(site.queue().len(), count);
}

#[test]
fn paramiko() {
    scripted(&Site::open(""), &here("target/tools/python/bin/python"), "paramiko_client.py");
}

#[test]
fn asyncssh() {
    scripted(&Site::open(""), &here("target/tools/python/bin/python"), "asyncssh_client.py");
}

#[test]
fn ssh2_for_node() {
    scripted(&Site::open(""), "node", "ssh2_client.js");
}

/// Runs a program that is given what [`scripted`] gives, goes on with an upload that was cut, and leaves what
/// [`Site::assert_used`] says.
fn used(site: &Site, program: &[&str]) {
    let (path, bytes) = site.source("whole.bin", LARGE);
    site.cut("in/cut.bin", &bytes[..1_234_567]);
    let given = ["127.0.0.1", &port(site), USER, PASSWORD, text(&path)];
    println!("{}", site.run(program[0], &[&program[1..], &given].concat()).trim());
    site.assert_kept("in/cut.bin", &bytes);
    site.assert_used("in", &bytes);
    site.assert_handed_over();
}

#[test]
fn ssh2_sftp_client_for_node() {
    used(&Site::open(""), &["node", &here("tests/clients/ssh2_sftp_client.js")]);
}

#[test]
fn pysftp() {
    used(&Site::open(""), &[&here("target/tools/pysftp/bin/python"), &here("tests/clients/pysftp_client.py")]);
}

/// It knows no encrypt-then-MAC: libssh2 before 1.11.
#[test]
fn php_ssh2() {
    let site = Site::with("", "", "macs = [\"hmac-sha2-256\"]");
    used(&site, &["php", &here("tests/clients/php_ssh2.php")]);
}

/// It knows neither Curve25519 nor Ed25519, and no encrypt-then-MAC.
#[test]
fn jsch() {
    let site = Site::with(
        "",
        "",
        "kex = [\"ecdh-sha2-nistp256\"]\nhost_key_algorithms = [\"ecdsa-sha2-nistp256\"]\nmacs = [\"hmac-sha2-256\"]",
    );
    used(&site, &["java", "-cp", "/usr/share/java/jsch.jar", &here("tests/clients/Jsch.java")]);
}

#[test]
fn fsspec() {
    let site = Site::open("");
    let (path, bytes) = site.source("whole.bin", LARGE);
    let (python, script) = (here("target/tools/python/bin/python"), here("tests/clients/fsspec_client.py"));
    println!("{}", site.run(&python, &[&script, "sftp", "127.0.0.1", &port(&site), USER, PASSWORD, "", text(&path)]));
    site.assert_used("sftp", &bytes);
    site.assert_handed_over();
}

/// PuTTY's programs, which must be told the host key, and what goes to all of them.
fn putty(site: &Site) -> Vec<String> {
    let status = site.machine.ok(&["status"]);
    let key = status.split_whitespace().find(|word| word.starts_with("SHA256:")).expect("a fingerprint");
    let port = port(site);
    ["-batch", "-P", &port, "-l", USER, "-hostkey", key].map(str::to_owned).to_vec()
}

#[test]
fn psftp() {
    let site = Site::open("");
    println!("{}", site.try_run("psftp", &["-V"], "").1.lines().next().unwrap());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let (small, tree) = (site.source("small.hl7", 1000), site.source("tree/d/f.hl7", SMALL));
    for (name, length) in [("twice.hl7", 2000), ("again.hl7", 3000), ("gone.hl7", 4000)] {
        fs::write(path.with_file_name(name), &bytes[..length]).unwrap();
    }
    site.cut("in/cut.bin", &bytes[..1_000_000]);
    let back = site.path("back.bin");
    let commands = format!(
        "cd in\nlcd {}\nput whole.bin\nput small.hl7\nput whole.bin named.part\nmv named.part named.bin\n\
         reput whole.bin cut.bin\nput twice.hl7\nput again.hl7 twice.hl7\nput gone.hl7\ndel gone.hl7\nput -r tree\n\
         mkdir sub\nrmdir sub\nchmod 600 small.hl7\nls\nget whole.bin {}\nquit\n",
        text(path.parent().unwrap()),
        text(&back),
    );
    let batch = site.path("batch");
    fs::write(&batch, commands).unwrap();
    let told = putty(&site);
    let common: Vec<_> = told.iter().map(String::as_str).collect();
    let psftp = |more: &[&str]| site.run("psftp", &[&common[..], more, &["127.0.0.1"]].concat());
    let said = psftp(&["-pw", PASSWORD, "-b", text(&batch)]);
    println!("{said}");
    site.assert_kept("in/small.hl7", &small.1);
    for name in ["whole.bin", "named.bin", "cut.bin"] {
        site.assert_kept(&format!("in/{name}"), &bytes);
    }
    site.assert_kept_each("in/twice.hl7", &[&bytes[..2000], &bytes[..3000]]);
    site.assert_kept("in/gone.hl7", &bytes[..4000]);
    site.assert_kept("in/tree/d/f.hl7", &tree.1);
    assert!(said.contains("small.hl7") && !said.contains(" gone.hl7\n"), "{said}");
    same(&back, &bytes);

    // A key of PuTTY's own, and what its generator gives out for servers.
    let (key, public) = (site.path("key.ppk"), site.path("key.pub"));
    let blank = site.source("blank", 0).0;
    site.run("puttygen", &["-t", "ed25519", "-o", text(&key), "--new-passphrase", text(&blank)]);
    site.run("puttygen", &["-L", text(&key), "-o", text(&public)]);
    site.machine.ok(&["partner", "key", "add", USER, text(&public)]);
    fs::write(&batch, format!("cd in\nput {} by-key.hl7\n", text(&small.0))).unwrap();
    psftp(&["-i", text(&key), "-b", text(&batch)]);
    site.assert_kept("in/by-key.hl7", &small.1);
    // What is refused ends the batch, and its exit code says so.
    fs::write(&batch, "put /etc/hostname out/not-here\n").unwrap();
    let (ended_well, said) =
        site.try_run("psftp", &[&common[..], &["-pw", PASSWORD, "-b", text(&batch), "127.0.0.1"]].concat(), "");
    assert!(!ended_well && said.contains("out/not-here"), "{said}");
    site.assert_handed_over();
}

#[test]
fn pscp() {
    let site = Site::open("");
    println!("{}", site.try_run("pscp", &["-V"], "").1.lines().next().unwrap());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let small: Vec<_> = (0..6).map(|n| site.source(&format!("tree/d{}/f{n}.hl7", n % 2), SMALL + n).1).collect();
    let mut told = putty(&site);
    told.extend(["-pw", PASSWORD, "-sftp", "-q"].map(str::to_owned));
    let common: Vec<_> = told.iter().map(String::as_str).collect();
    let pscp = |more: &[&str]| site.run("pscp", &[&common[..], more].concat());
    pscp(&[text(&path), "127.0.0.1:whole.bin"]);
    pscp(&["-p", text(&path), "127.0.0.1:/named.bin"]);
    site.assert_kept("whole.bin", &bytes);
    site.assert_kept("named.bin", &bytes);
    pscp(&["-r", text(&site.path("outgoing/tree")), "127.0.0.1:/"]);
    for (n, bytes) in small.iter().enumerate() {
        site.assert_kept(&format!("tree/d{}/f{n}.hl7", n % 2), bytes);
    }
    let back = site.path("back.bin");
    pscp(&["127.0.0.1:whole.bin", text(&back)]);
    same(&back, &bytes);
    assert!(pscp(&["-ls", "127.0.0.1:/"]).contains("whole.bin"));
    site.assert_handed_over();
}

#[test]
fn scp() {
    let site = Site::open("");
    println!("{}", site.run("ssh", &["-V"]).trim());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let small: Vec<_> = (0..6).map(|n| site.source(&format!("tree/d{}/f{n}.hl7", n % 2), SMALL + n).1).collect();
    let askpass = site.path("askpass");
    fs::write(&askpass, format!("#!/bin/sh\necho '{PASSWORD}'\n")).unwrap();
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).unwrap();
    let (ask, port) = (format!("SSH_ASKPASS={}", text(&askpass)), port(&site));
    let scp = |arguments: &[&str]| {
        let command = [&[&ask, "SSH_ASKPASS_REQUIRE=force", "scp", "-s", "-P", &port], &SSH[..], arguments].concat();
        site.run("env", &command)
    };
    let at = |path: &str| format!("{USER}@127.0.0.1:{path}");
    scp(&[text(&path), &at("whole.bin")]);
    site.assert_kept("whole.bin", &bytes);
    scp(&["-r", "-p", text(&site.path("outgoing/tree")), &at("/")]);
    for (n, bytes) in small.iter().enumerate() {
        site.assert_kept(&format!("tree/d{}/f{n}.hl7", n % 2), bytes);
    }
    let back = site.path("back.bin");
    scp(&[&at("whole.bin"), text(&back)]);
    same(&back, &bytes);
}

/// A mounted account, and its end.
struct Mount(Child, PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("fusermount3").args(["-u", "-z"]).arg(&self.1).status();
        let _ = self.0.wait();
    }
}

fn mount(site: &Site) -> Mount {
    let at = site.path("mounted");
    fs::create_dir_all(&at).unwrap();
    let password = site.path("password");
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let child = Command::new("sshfs")
        .args(["-f", "-p", &port(site), "-o", "password_stdin,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null"])
        .arg(format!("{USER}@127.0.0.1:/"))
        .arg(&at)
        .stdin(fs::File::open(&password).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("sshfs: {error}; tests/run installs the clients"));
    let mount = Mount(child, at.clone());
    wait_until("it is mounted", || at.join("out").is_dir());
    mount
}

#[test]
fn sshfs() {
    let site = Site::open("");
    println!("{}", site.run("sshfs", &["--version"]).lines().next().unwrap());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let mount = mount(&site);
    let at = &mount.1;
    fs::create_dir(at.join("in")).unwrap();
    fs::copy(&path, at.join("in/whole.bin")).unwrap();
    // It does not wait for the answer to CLOSE, so that only a rename behind it tells.
    wait_until("it is kept", || site.queue().len() == 1);
    site.assert_kept("in/whole.bin", &bytes);
    fs::copy(&path, at.join("in/named.part")).unwrap();
    fs::rename(at.join("in/named.part"), at.join("in/named.bin")).unwrap();
    site.assert_kept("in/named.bin", &bytes);
    let mut names: Vec<_> = fs::read_dir(at.join("in")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["named.bin", "whole.bin"]);
    same(&at.join("in/whole.bin"), &bytes);
    let mut some = [0; 1000];
    fs::File::open(at.join("in/named.bin")).unwrap().read_exact_at(&mut some, 5000).unwrap();
    assert_eq!(some, bytes[5000..6000]);
    fs::remove_file(at.join("in/named.bin")).unwrap();
    assert!(!at.join("in/named.bin").exists());
    // The file itself was accepted, and stays.
    site.assert_kept("in/named.bin", &bytes);
}

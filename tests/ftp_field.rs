//! What clients in the field do beside uploading: they leave globs to the server, mirror with deletion, resume TLS
//! sessions on every data connection, upload under names of their own, and know only old algorithms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use harness::{
    Ftp, files_below,
    site::{Mode, PASSWORD, Site, USER, same, text},
};

fn login(site: &Site) -> Ftp {
    let mut ftp = Ftp::connect(site.machine.ftp);
    ftp.login(USER, PASSWORD);
    ftp
}

fn receipts(ftp: &mut Ftp) -> usize {
    ftp.list("out").iter().filter(|name| name.ends_with(".receipt.json")).count()
}

/// tnftp sends the glob with NLST, and asks for each name that it is told.
#[test]
fn mget_of_tnftp_fetches_what_matches() {
    let site = Site::open("");
    let (_, one) = site.source("one.hl7", 5_000);
    let (_, two) = site.source("two.hl7", 6_000);
    let mut ftp = login(&site);
    assert_eq!(ftp.command("MKD in").code, 257);
    for (name, bytes) in [("in/one.hl7", &one), ("in/two.hl7", &two), ("in/three.txt", &one), ("four.hl7", &two)] {
        assert_eq!(ftp.store(name, bytes).code, 226);
    }
    let at = site.machine.ftp;
    let home = site.path("home-of-the-client");
    fs::create_dir_all(home.join("in")).unwrap();
    let commands = format!(
        "open localhost {}\nuser {USER} {PASSWORD}\nbinary\nprompt\nmget in/*.hl7\nmget f*.hl7\nmget out/*.json\nbye\n",
        at.port()
    );
    fs::create_dir_all(home.join("out")).unwrap();
    site.run_with("tnftp", &["-n", "-p"], &commands);
    same(&home.join("in/one.hl7"), &one);
    same(&home.join("in/two.hl7"), &two);
    same(&home.join("four.hl7"), &two);
    assert!(!home.join("in/three.txt").exists());
    assert_eq!(files_below(&home.join("out")).len(), 4, "the receipts");
}

/// Each run makes the account like the folder, and leaves alone what is not the folder's: `out/`.
#[test]
fn mirrors_with_deletion_end_well_and_leave_out_alone() {
    let site = Site::open("");
    let tree = site.path("outgoing/tree");
    site.source("tree/a.hl7", 5_000);
    site.source("tree/d/b.hl7", 5_000);
    let at = site.machine.ftp;
    let lftp = format!(
        "set cmd:fail-exit yes; set ftp:ssl-allow no; open -u {USER},{PASSWORD} ftp://{at}; mirror -R --delete {} /",
        text(&tree)
    );
    let hidden = site.run("rclone", &["obscure", PASSWORD]);
    let port = at.port().to_string();
    let rclone = ["--config", "", "--ftp-host", "localhost", "--ftp-port", &port, "--ftp-user", USER];
    let rclone =
        [&rclone[..], &["--ftp-pass", hidden.trim(), "--retries", "1", "sync", text(&tree), ":ftp:/"]].concat();
    let mut ftp = login(&site);
    for _ in 0..2 {
        let before = receipts(&mut ftp);
        site.run("lftp", &["--norc", "-c", &lftp]);
        assert_eq!(ftp.store("alien.hl7", b"data").code, 226);
        site.run("rclone", &rclone);
        assert!(receipts(&mut ftp) > before.max(2), "none was removed");
        assert_eq!(ftp.list("/"), ["a.hl7", "d"], "what the folder does not have was");
    }
    assert!(site.queue().iter().any(|(name, _)| name == "d/b.hl7"));
}

/// TLS 1.3 clients use a ticket once: each data connection has to give the next. curl reads no more when it has sent, so
/// it is let through as long as nothing shows that the partner's clients always resume.
#[test]
fn clients_that_resume_upload_and_fetch_any_number_of_files_in_a_session() {
    let site = Site::open("data_resumption = \"required\"");
    let lenient = Site::open("");
    let files: Vec<_> = (0..6).map(|n| site.source(&format!("f{n}.bin"), 20_000 + n)).collect();
    let script = site.path("put.php");
    let mut php = format!(
        "<?php $ftp = ftp_ssl_connect('localhost', {}) or die('no connection'); ftp_login($ftp, '{USER}', '{PASSWORD}') \
         or die('no login'); ftp_pasv($ftp, true);\n",
        site.machine.ftp.port()
    );
    for (n, (path, _)) in files.iter().enumerate() {
        let back = site.path(&format!("php-back-{n}"));
        php.push_str(&format!("ftp_put($ftp, 'php-{n}', '{}', FTP_BINARY) or exit(1);\n", text(path)));
        php.push_str("ftp_nlist($ftp, '.') or exit(2);\n");
        php.push_str(&format!("ftp_get($ftp, '{}', 'php-{n}', FTP_BINARY) or exit(3);\n", text(&back)));
    }
    fs::write(&script, php).unwrap();
    site.run("php", &[text(&script)]);
    let certificate = lenient.certificate();
    let mut config = String::new();
    for (n, (path, _)) in files.iter().enumerate() {
        config += &format!("upload-file = \"{}\"\nurl = \"{}/curl-{n}\"\n", text(path), lenient.url(Mode::Explicit));
    }
    fs::write(site.path("curl.config"), config).unwrap();
    let user = format!("{USER}:{PASSWORD}");
    let curl = ["--silent", "--show-error", "--ssl-reqd", "--cacert", text(&certificate), "--user", &user];
    site.run("curl", &[&curl[..], &["--config", text(&site.path("curl.config"))]].concat());
    site.run("lftp", &["--norc", "-c", &lftp_puts(&site, &files)]);
    for (n, (_, bytes)) in files.iter().enumerate() {
        for (site, client) in [(&site, "php"), (&lenient, "curl"), (&site, "lftp")] {
            site.assert_kept(&format!("{client}-{n}"), bytes);
        }
        same(&site.path(&format!("php-back-{n}")), bytes);
    }
}

/// OpenSSL uses a ticket of TLS 1.3 once, and curl has closed a data connection before the next ticket could come. In TLS 1.2
/// it resumes one session for all.
#[test]
fn curl_sends_several_files_in_a_session_where_each_data_connection_must_resume() {
    let site = Site::open("data_resumption = \"required\"");
    let files: Vec<_> = (0..6).map(|n| site.source(&format!("f{n}.bin"), 20_000 + n)).collect();
    let all: Vec<_> = files.iter().map(|(path, _)| text(path)).collect();
    let all = format!("{{{}}}", all.join(","));
    let (certificate, user) = (site.certificate(), format!("{USER}:{PASSWORD}"));
    for mode in [Mode::Explicit, Mode::Implicit] {
        let put = |folder: &str, version: [&str; 3]| {
            let url = format!("{}/{folder}/", site.url(mode));
            let arguments = ["--silent", "--show-error", "--verbose", "--ssl-reqd", "--ftp-create-dirs", "--cacert"];
            let more = [text(&certificate), "--user", &user, "--upload-file", &all, &url];
            site.try_run("curl", &[&version[..], &arguments, &more].concat(), "")
        };
        let folder = format!("{mode:?}-2");
        let (ended_well, said) = put(&folder, ["--tlsv1.2", "--tls-max", "1.2"]);
        assert!(ended_well && said.contains("TLSv1.2") && !said.contains("522"), "{said}");
        for (n, (_, bytes)) in files.iter().enumerate() {
            site.assert_kept(&format!("{folder}/f{n}.bin"), bytes);
        }
        let folder = format!("{mode:?}-3");
        let (_, said) = put(&folder, ["--tlsv1.3", "--tls-max", "1.3"]);
        assert!(said.contains("TLSv1.3") && said.contains("522 "), "it is told why: {said}");
        site.assert_kept(&format!("{folder}/f0.bin"), &files[0].1);
        // None of the others is kept in part.
        for (name, _) in site.queue().iter().filter(|(name, _)| name.starts_with(&folder)) {
            let n: usize = name[folder.len() + 2..].trim_end_matches(".bin").parse().unwrap();
            site.assert_kept(name, &files[n].1);
        }
    }
}

fn lftp_puts(site: &Site, files: &[(PathBuf, Vec<u8>)]) -> String {
    let put = |(n, (path, _)): (usize, &(PathBuf, Vec<u8>))| format!("put {} -o lftp-{n}", text(path));
    let puts: Vec<_> = files.iter().enumerate().map(put).collect();
    format!(
        "set cmd:fail-exit yes; set net:max-retries 2; set ssl:ca-file {}; set ftp:ssl-force yes; \
         set ftp:ssl-protect-data yes; open -u {USER},{PASSWORD} {}; {}",
        text(&site.certificate()),
        site.url(Mode::Explicit),
        puts.join("; ")
    )
}

/// Spring Integration and rclone since 1.63: the file is processed under its final name, and once.
#[test]
fn files_are_processed_under_the_name_that_their_upload_ends_with() {
    let site = Site::open("");
    let mut ftp = login(&site);
    for (number, temporary) in ["lab.hl7.writing", "lab.hl7.1a2b3c4d.partial", "lab.hl7~"].iter().enumerate() {
        let name = format!("lab{number}.hl7");
        assert_eq!(ftp.store(temporary, b"data").code, 226);
        site.machine.wait_queue("it waits", |all| all.iter().all(|one| one["state"] != "ready"));
        assert_eq!(ftp.command(&format!("RNFR {temporary}")).code, 350);
        assert_eq!(ftp.command(&format!("RNTO {name}")).code, 250);
    }
    site.machine.wait_queue("all are processed", |all| all.len() == 3 && all.iter().all(|one| one["state"] == "done"));
    let mut names: Vec<_> = site.queue().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["lab0.hl7", "lab1.hl7", "lab2.hl7"]);
    assert!(!site.machine.ok(&["status"]).contains("temporary_names"), "nothing to say of");
}

#[test]
fn status_names_temporary_names_that_no_policy_knows_and_the_line_to_add() {
    let site = Site::open("");
    let mut ftp = login(&site);
    for number in 0..2 {
        assert_eq!(ftp.store(&format!("lab{number}.hl7.8f3a.xfer"), b"data").code, 226);
        assert_eq!(ftp.command(&format!("RNFR lab{number}.hl7.8f3a.xfer")).code, 350);
        assert_eq!(ftp.command(&format!("RNTO lab{number}.hl7")).code, 250);
    }
    // One that is renamed to something else says nothing.
    assert_eq!(ftp.store("other.hl7", b"data").code, 226);
    assert_eq!(ftp.command("RNFR other.hl7").code, 350);
    assert_eq!(ftp.command("RNTO another.hl7").code, 250);
    let status = site.machine.ok(&["status"]);
    let line = status.lines().find(|line| line.contains("[[partner]]")).unwrap_or_else(|| panic!("{status}"));
    assert!(line.contains("2 since the start") && line.contains("lab1.hl7.8f3a.xfer"), "{line}");
    let (_, keys) = line.split_once("[[partner]]: ").unwrap();
    assert!(keys.ends_with(", \"*.xfer\"]") && keys.contains("\"*.tmp\""), "{keys}");
    // With the line nothing is said any more, and such a name is temporary.
    let config = fs::read_to_string(site.machine.path().join("forebay.toml")).unwrap();
    site.machine.write("forebay.toml", &format!("{config}\n[[partner]]\nname = \"{USER}\"\n{keys}\n"));
    site.machine.signal(rustix::process::Signal::HUP);
    harness::wait_until("the policy knows it", || !site.machine.ok(&["status"]).contains("[[partner]]"));
    assert_eq!(ftp.store("more.hl7.1111.xfer", b"data").code, 226);
    assert!(site.machine.queue().iter().any(|one| one["state"] == "unfinished"));
    assert!(!site.machine.ok(&["status"]).contains("[[partner]]"));
}

fn ssh(site: &Site, algorithms: &[&str], batch: &Path) -> (bool, String) {
    let (port, askpass) = (site.machine.sftp.port().to_string(), site.path("askpass"));
    fs::write(&askpass, format!("#!/bin/sh\necho '{PASSWORD}'\n")).unwrap();
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).unwrap();
    let environment = format!("SSH_ASKPASS={}", text(&askpass));
    let mut all = vec![environment.as_str(), "SSH_ASKPASS_REQUIRE=force", "sftp", "-F", "none", "-P", &port];
    for option in
        ["BatchMode=no", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "PubkeyAuthentication=no"]
            .iter()
            .chain(algorithms)
    {
        all.extend(["-o", *option]);
    }
    let at = format!("{USER}@localhost");
    all.extend(["-b", text(batch), &at]);
    site.try_run("env", &all, "")
}

/// The offers of JSch 0.1.54 (Mirth, Camel) and of libssh2 before 1.11 (PHP, curl), as OpenSSH can make them.
#[test]
fn old_clients_are_shut_out_with_a_line_that_says_why_and_come_in_with_the_lists_of_the_docs() {
    const JSCH: [&str; 4] = [
        "KexAlgorithms=ecdh-sha2-nistp256,ecdh-sha2-nistp384,diffie-hellman-group14-sha1",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256,ecdsa-sha2-nistp384",
        "Ciphers=aes128-ctr,aes128-cbc",
        "MACs=hmac-md5,hmac-sha1,hmac-sha2-256",
    ];
    const LIBSSH2: [&str; 1] = ["MACs=hmac-sha2-256,hmac-sha2-512,hmac-sha1"];
    let ctr = ["Ciphers=aes256-ctr", LIBSSH2[0]];
    let docs = include_str!("../docs/PARTNERS.md");
    let lists: Vec<&str> = ["kex = [", "host_key_algorithms = [", "macs = ["]
        .iter()
        .map(|key| docs.lines().find(|line| line.trim_start().starts_with(key)).unwrap_or_else(|| panic!("no {key}")))
        .collect();
    let closed = Site::open("");
    let (path, _) = closed.source("a.hl7", 5_000);
    let batch = closed.path("batch");
    fs::write(&batch, format!("put {} a.hl7\n", text(&path))).unwrap();
    for _ in 0..3 {
        assert!(!ssh(&closed, &JSCH, &batch).0 && !ssh(&closed, &ctr, &batch).0);
    }
    let log = closed.machine.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("an SSH client was shut out")).collect();
    assert_eq!(told.len(), 2, "once for each reason: {log}");
    for (line, words) in told.iter().zip([
        ["key exchange", "diffie-hellman-group14-sha1", "ecdh-sha2-nistp256", "[sftp] kex"],
        ["MAC", "hmac-sha1", "hmac-sha2-512", "[sftp] macs"],
    ]) {
        assert!(words.iter().all(|word| line.contains(*word)) && line.contains(" INFO "), "{line}");
    }
    let open = Site::with("", "", &lists.join("\n"));
    for algorithms in [&JSCH[..], &ctr] {
        let (ended_well, said) = ssh(&open, algorithms, &batch);
        assert!(ended_well, "{said}\n{}", open.machine.log());
    }
    assert_eq!(open.queue().len(), 2);
}

//! Real clients upload in a closed window; everything is deferred, and processed once, in order, when it ends.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a test reads the clock of the machine, and may fail"
)]

mod harness;

use std::{collections::HashMap, fmt::Write, fs, os::unix::fs::PermissionsExt, process::Command};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::America::Chicago;
use harness::binary::{Machine, http_get, http_status, json_lines};

const PASSWORD: &str = "correct horse battery staple";
const MESSAGE: &str =
    "The server is temporarily unable to service your request due to maintenance downtime or capacity problems.";

/// Notes each run: id, name, and the digest of what it was given.
const PROCESSOR: &str = r#"#!/bin/sh
sum=$(sha256sum "$FOREBAY_PATH") || exit 1
echo "$FOREBAY_FILE_ID $FOREBAY_PARTNER $FOREBAY_NAME ${sum%% *}" >>"${0%/*}/runs.log"
"#;

fn schedule(start: DateTime<Utc>, end: DateTime<Utc>) -> String {
    let local = |at: DateTime<Utc>| at.with_timezone(&Chicago).format("%Y-%m-%d %H:%M:%S").to_string();
    format!(
        "timezone = \"America/Chicago\"\n[[window]]\nname = \"Servers\"\nstart = \"{}\"\nend = \"{}\"\nreason = \"System maintenance\"\nmessage = \"{MESSAGE}\"\n",
        local(start),
        local(end)
    )
}

fn run(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs the clients"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

#[test]
fn uploads_by_curl_lftp_ftplib_and_openssh_in_a_window_are_deferred_and_processed_when_it_ends() {
    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).expect("in range");
    let minute = now.timestamp() - now.timestamp() % 60;
    let first_end = DateTime::from_timestamp(minute, 0).expect("in range") + TimeDelta::hours(3);
    let mut machine = Machine::new(
        "[schedule]\nfile = \"maintenance.toml\"\n\n[[route]]\nname = \"immunizations\"\nprocessor = \"exec\"\ncommand = [\"@DIR@/process\"]\n",
    );
    machine.write("process", PROCESSOR);
    fs::set_permissions(machine.path().join("process"), fs::Permissions::from_mode(0o755)).expect("chmod");
    machine.write("maintenance.toml", &schedule(now, first_end));
    for partner in ["curl", "lftp", "openssh", "python"] {
        machine.add_partner(partner, PASSWORD);
    }
    machine.start();
    let address = machine.ftp;

    // curl, one file at a time over plain FTP and over explicit TLS.
    for number in 0..10 {
        let file = machine.path().join(format!("curl-{number}.hl7"));
        fs::write(&file, format!("MSH|curl|{number}")).expect("writes");
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--verbose", "--user", &format!("curl:{PASSWORD}"), "--upload-file"])
            .arg(&file);
        if number % 2 == 1 {
            command.args(["--ssl-reqd", "--insecure"]);
        }
        let text = run(command.arg(format!("ftp://{address}/")));
        assert!(text.contains("< 226"), "{text}");
    }

    // lftp, 2,000 files, eight at once.
    let tree = machine.path().join("tree");
    for number in 0..2_000 {
        let dir = tree.join(format!("d{}", number % 10));
        fs::create_dir_all(&dir).expect("mkdir");
        fs::write(dir.join(format!("f{number:04}.hl7")), format!("MSH|lftp|{number}")).expect("writes");
    }
    run(Command::new("lftp").arg("-c").arg(format!(
        "set ftp:ssl-allow no; set net:max-retries 3; open -u lftp,'{PASSWORD}' ftp://{address}; mirror -R --parallel=8 {} /",
        tree.display()
    )));

    // Python's ftplib, many over one session.
    run(Command::new("python3").arg("-c").arg(format!(
        "import ftplib, io\n\
         ftp = ftplib.FTP()\n\
         ftp.connect('{}', {})\n\
         ftp.login('python', '{PASSWORD}')\n\
         for n in range(50):\n\
         \x20   assert ftp.storbinary(f'STOR p{{n:02}}.hl7', io.BytesIO(b'MSH|python|%d' % n)).startswith('226')\n\
         assert 'p49.hl7' in ftp.nlst()\n\
         ftp.quit()\n",
        address.ip(),
        address.port()
    )));

    // OpenSSH's sftp, many over one session, some by a temporary name.
    let mut batch = String::new();
    for number in 0..50 {
        let file = machine.path().join(format!("s{number:02}.hl7"));
        fs::write(&file, format!("MSH|openssh|{number}")).expect("writes");
        let sent_as = if number % 5 == 0 { format!("s{number:02}.tmp") } else { format!("s{number:02}.hl7") };
        writeln!(batch, "put {} {sent_as}", file.display()).expect("writes to a string");
        if number % 5 == 0 {
            writeln!(batch, "rename {sent_as} s{number:02}.hl7").expect("writes to a string");
        }
    }
    machine.write("batch", &batch);
    machine.write("askpass", &format!("#!/bin/sh\necho '{PASSWORD}'\n"));
    fs::set_permissions(machine.path().join("askpass"), fs::Permissions::from_mode(0o700)).expect("chmod");
    run(Command::new("sftp")
        .env("SSH_ASKPASS", machine.path().join("askpass"))
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env_remove("SSH_AUTH_SOCK")
        .args(["-F", "none", "-o", "BatchMode=no", "-o", "StrictHostKeyChecking=no"])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "PubkeyAuthentication=no"])
        .args(["-P", &machine.sftp.port().to_string(), "-b"])
        .arg(machine.path().join("batch"))
        .arg("openssh@127.0.0.1"));

    let deferred = machine.queue();
    assert_eq!(deferred.len(), 2_110);
    for entry in &deferred {
        assert_eq!((entry["state"].as_str(), entry["deferred"].as_bool()), (Some("ready"), Some(true)), "{entry:#}");
        assert_eq!(entry["resumes_at"].as_str().and_then(|text| text.parse().ok()), Some(first_end), "{entry:#}");
    }
    let human = machine.ok(&["queue", "list", "--partner", "python"]);
    let local = first_end.with_timezone(&Chicago).format("%H:%M %Z").to_string();
    assert!(human.contains(&local), "no \"{local}\" in:\n{human}");
    assert!(!machine.path().join("runs.log").exists(), "nothing runs in the window");
    assert_eq!(http_status(machine.web, "/"), Some(503));
    assert!(http_get(machine.web, "/", "text/plain").is_some_and(|text| text.contains(MESSAGE)));

    // The window is shortened in the file, and then ends by itself.
    let end = DateTime::from_timestamp(Utc::now().timestamp() + 5, 0).expect("in range");
    machine.write("maintenance.toml", &schedule(now, end));
    machine.wait_queue("all are processed", |entries| entries.iter().all(|entry| entry["state"] == "done"));
    assert_eq!(http_status(machine.web, "/"), Some(200));

    let runs = fs::read_to_string(machine.path().join("runs.log")).expect("there were runs");
    assert_eq!(runs.lines().count(), 2_110, "once each");
    let digests: HashMap<_, _> = deferred.iter().map(|entry| (text(entry, "id"), text(entry, "sha256"))).collect();
    for line in runs.lines() {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(digests.get(words[0]).map(String::as_str), words.last().copied(), "{line}");
    }
    for partner in ["curl", "lftp", "openssh", "python"] {
        let arrived: Vec<_> =
            deferred.iter().filter(|entry| entry["partner"] == partner).map(|entry| text(entry, "id")).collect();
        let ran: Vec<_> = runs
            .lines()
            .filter(|line| line.split(' ').nth(1) == Some(partner))
            .filter_map(|line| Some(line.split(' ').next()?.to_owned()))
            .collect();
        assert_eq!(arrived, ran, "the lane of {partner} is not in order");
    }
    for record in json_lines(&machine.ok(&["audit", "--json"])) {
        if record["what"] == "started" {
            let at: DateTime<Utc> = record["at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
            assert!(at >= end, "an attempt began at {at}, before the window ended at {end}");
        }
    }
    machine.stop();
}

fn text(entry: &serde_json::Value, key: &str) -> String {
    entry[key].as_str().unwrap_or_else(|| panic!("no {key} in {entry:#}")).to_owned()
}

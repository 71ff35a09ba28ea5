//! `forebay check`: whatever keeps a server from starting, or its partners from coming in, is found before the start.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
};

use harness::binary::{FOREBAY, Machine, json_lines};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Whether `check` finds faults, and what it prints.
fn check(machine: &Machine) -> (bool, String) {
    let output = machine.cli(&["check"]);
    (!output.status.success(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
}

/// `check` finds this fault, and `serve` does not start.
fn keeps_from_starting(machine: &Machine, fault: &str) {
    let (faulty, told) = check(machine);
    assert!(faulty && told.contains(fault), "{fault} is missing in\n{told}");
    let config = machine.path().join("forebay.toml");
    let mut serve = Command::new("timeout");
    let output = serve.args(["60", FOREBAY, "serve", "--config"]).arg(config).output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "it starts: {output:?}");
}

fn is_fault(machine: &Machine, fault: &str) {
    let (faulty, told) = check(machine);
    assert!(faulty && told.contains(fault), "{fault} is missing in\n{told}");
}

fn is_warning(machine: &Machine, warning: &str) {
    let (faulty, told) = check(machine);
    let found = told.lines().any(|line| line.starts_with("warning") && line.contains(warning));
    assert!(!faulty && found, "{warning} is missing in\n{told}");
}

fn is_fine(machine: &Machine) {
    let (faulty, told) = check(machine);
    assert!(!faulty && !told.contains("warning"), "{told}");
}

/// An authority, and certificates of it.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = params(name, 2035);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { params, key: KeyPair::generate().unwrap() }
    }

    fn pem(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    fn issue(&self, params: CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).unwrap().pem()
    }
}

fn params(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["ftp.example".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params
}

fn private(machine: &Machine, name: &str, text: &str) {
    machine.write(name, text);
    fs::set_permissions(machine.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_certificate_is_looked_at_as_the_door_will_use_it() {
    let machine = Machine::with_ftp("certificate = \"cert.pem\"\nkey = \"key.pem\"", "");
    let (authority, other) = (Authority::new("Authority"), Authority::new("Other"));
    let (key, wrong) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let own = authority.issue(params("ftp", 2035), &key);
    machine.write("cert.pem", &format!("{own}{}", authority.pem()));
    private(&machine, "key.pem", &key.serialize_pem());
    is_fine(&machine);
    // As an editor on Windows saves them.
    private(&machine, "key.pem", &format!("\u{feff}{}", key.serialize_pem().replace('\n', "\r\n")));
    is_fine(&machine);

    private(&machine, "key.pem", &wrong.serialize_pem());
    keeps_from_starting(&machine, "ftp.key: ");
    is_fault(&machine, "is the key of another certificate");
    private(&machine, "key.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n");
    keeps_from_starting(&machine, "is encrypted");
    is_fault(&machine, "openssl pkey");
    private(&machine, "key.pem", &key.serialize_pem());
    machine.write("cert.pem", "nothing");
    keeps_from_starting(&machine, "ftp.certificate: ");

    machine.write("cert.pem", &format!("{own}{}", other.pem()));
    is_fault(&machine, "certificate 2 has not signed certificate 1");
    machine.write("cert.pem", &own);
    is_warning(&machine, "has no certificate of its issuer");
    machine.write("cert.pem", &(authority.issue(params("ftp", 2021), &key) + &authority.pem()));
    is_fault(&machine, "ended on 2021-01-01");
    machine.write("cert.pem", &format!("{own}{}", authority.pem()));
    fs::set_permissions(machine.path().join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    is_warning(&machine, "every user can read this private key");
}

#[test]
fn host_keys_and_authorities_of_ssh_are_read() {
    let machine = Machine::new("");
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    let with = |lines: &str| machine.write("forebay.toml", &config.replace("[sftp]\n", &format!("[sftp]\n{lines}\n")));
    let generate = |name: &str, kind: &str, passphrase: &str| {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", passphrase, "-f"])
            .arg(machine.path().join(name))
            .status();
        assert!(made.expect("ssh-keygen").success());
    };
    generate("open", "ed25519", "");
    generate("closed", "ed25519", "secret");
    generate("nist", "ecdsa", "");
    with("host_keys = [\"open\"]");
    is_fine(&machine);
    with("host_keys = [\"open\", \"closed\"]");
    keeps_from_starting(&machine, "sftp.host_keys[1]: ");
    is_fault(&machine, "is encrypted");
    with("host_keys = [\"nist\"]");
    keeps_from_starting(&machine, "no host key is of a kind");
    with("host_keys = [\"open.pub\"]");
    keeps_from_starting(&machine, "sftp.host_keys[0]: ");
    machine.write("authorities", "ssh-ed25519 AAAA\n");
    with("trusted_ca = \"authorities\"");
    keeps_from_starting(&machine, "line 1 is no public key");
    // The authority's key as an editor on Windows saves it.
    let line = fs::read_to_string(machine.path().join("open.pub")).unwrap();
    machine.write("authorities", &format!("\u{feff}{}\r\n", line.trim()));
    with("trusted_ca = \"authorities\"");
    is_fine(&machine);
    // What a former start has made and somebody has damaged.
    fs::create_dir_all(machine.data().join("ssh")).unwrap();
    fs::write(machine.data().join("ssh/ssh_host_ed25519_key"), "torn").unwrap();
    machine.write("forebay.toml", &config);
    keeps_from_starting(&machine, "ssh_host_ed25519_key");
}

#[test]
fn listeners_that_take_each_other_s_address_are_found() {
    let machine = Machine::new("");
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    let sftp = machine.sftp;
    machine.write("forebay.toml", &config.replace("[ftp]\n", &format!("[ftp]\nimplicit_listen = \"{sftp}\"\n")));
    keeps_from_starting(&machine, "sftp.listen: is the address of ftp.implicit_listen too");
    let everywhere = format!("[ftp]\nimplicit_listen = \"0.0.0.0:{}\"\n", machine.web.port());
    machine.write("forebay.toml", &config.replace("[ftp]\n", &everywhere));
    keeps_from_starting(&machine, "web.listen: is the address of ftp.implicit_listen too");
}

#[test]
fn the_data_and_whose_it_is_are_looked_at() {
    let machine = Machine::new("[[partner]]\nname = \"nobody\"\nmax_sessions = 3\n");
    is_fine(&machine);
    machine.add_partner("clinic", "secret");
    is_warning(&machine, "partner[0].name: there is no account nobody");
    let account = machine.data().join("partners/clinic.json");
    let good = fs::read(&account).unwrap();
    fs::write(&account, "{").unwrap();
    is_fault(&machine, "clinic.json is no account");
    fs::write(&account, good).unwrap();
    let state = machine.data().join("gate/state.json");
    let good = fs::read(&state).unwrap();
    fs::write(&state, "{").unwrap();
    keeps_from_starting(&machine, "state.json");
    fs::write(&state, good).unwrap();
    is_warning(&machine, "there is no account nobody");

    let no_place = Machine::new("[[route]]\nname = \"x\"\ndirectory = \"forebay.toml/below\"\n");
    is_fault(&no_place, "route[0].directory: ");
    let no_data = Machine::new("");
    no_data.write("data", "a file");
    keeps_from_starting(&no_data, "is no directory");
    // The data that is named on the command line is what is looked at.
    let elsewhere = no_data.path().join("elsewhere").display().to_string();
    assert!(no_data.cli(&["check", "--data", &elsewhere]).status.success());
    no_data.write("elsewhere", "a file");
    assert!(!no_data.cli(&["check", "--data", &elsewhere]).status.success());
}

#[test]
fn files_of_another_user_in_the_data_are_found() {
    let machine = Machine::new("");
    machine.add_partner("clinic", "secret");
    // Only root can give files away; anybody else cannot get into this state either.
    if rustix::process::geteuid().is_root() {
        let account = machine.data().join("partners/clinic.json");
        chown(&account, Some(65_534), None).unwrap();
        is_fault(&machine, "clinic.json does not belong to root");
        chown(&account, Some(0), None).unwrap();
        is_fine(&machine);
        chown(machine.data(), Some(65_534), None).unwrap();
        let (_, told) = check(&machine);
        assert!(told.contains("looked at as root"), "{told}");
    }
}

#[test]
fn a_script_that_cannot_be_run_is_no_program() {
    let machine = Machine::new("[[route]]\nname = \"x\"\nprocessor = \"exec\"\ncommand = [\"@DIR@/load\"]\n");
    let script = |text: &str| {
        machine.write("load", text);
        fs::set_permissions(machine.path().join("load"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("#!/bin/sh\ncat\n");
    assert!(!check(&machine).0, "{}", check(&machine).1);
    script("#!/bin/sh\r\ncat\r\n");
    is_fault(&machine, "has the line ends of Windows");
    script("#!/no/such/python3 -u\n");
    is_fault(&machine, "is for /no/such/python3");
    script("\u{feff}#!/bin/sh\ncat\n");
    is_fault(&machine, "begins with a byte order mark");
}

#[test]
fn a_zone_that_knows_no_summer_is_told_with_the_one_that_is_meant() {
    let machine = Machine::new("[schedule]\nfile = \"maintenance.toml\"\n");
    for (zone, meant) in [
        ("EST", "America/New_York"),
        ("MST", "America/Denver"),
        ("Etc/GMT+6", "America/Chicago"),
        ("GMT", "Europe/London"),
    ] {
        machine.write("maintenance.toml", &format!("# ours\ntimezone = \"{zone}\"\n"));
        is_warning(&machine, &format!("probably \"{meant}\" is meant"));
        is_warning(&machine, "maintenance.toml:2: timezone");
    }
    for zone in ["America/Chicago", "America/Phoenix", "UTC"] {
        machine.write("maintenance.toml", &format!("timezone = \"{zone}\"\n"));
        is_fine(&machine);
    }
    // As Windows and people name them: no zones, and yet it is plain what is meant.
    for (zone, meant) in [("Central Standard Time", "America/Chicago"), ("PST", "America/Los_Angeles")] {
        machine.write("maintenance.toml", &format!("timezone = \"{zone}\"\n"));
        is_fault(&machine, &format!("\"{meant}\" is probably meant"));
    }
}

#[test]
fn machines_are_told_of_warnings_too_and_which_findings_are_faults() {
    let machine = Machine::new("[schedule]\nfile = \"maintenance.toml\"\n");
    let found = |exit_code: i32| {
        let output = machine.cli(&["check", "--json"]);
        assert_eq!(output.status.code(), Some(exit_code), "{output:?}");
        let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
        lines.iter().map(|one| (one["severity"].clone(), one["key"].clone(), one["line"].clone())).collect::<Vec<_>>()
    };
    machine.write("maintenance.toml", "# ours\ntimezone = \"EST\"\n");
    let warning = ("warning".into(), "timezone".into(), 2.into());
    assert_eq!(found(0), [warning]);
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &format!("foo = 1\n{config}"));
    let [warning, fault] = <[_; 2]>::try_from(found(1)).unwrap();
    assert_eq!((warning.0, fault), ("warning".into(), ("fault".into(), "foo".into(), 1.into())));
    machine.write("forebay.toml", &config);
    machine.write("maintenance.toml", "timezone = \"UTC\"\n");
    assert_eq!(found(0), []);
}

#[test]
fn files_that_were_saved_on_windows_are_read() {
    let machine = Machine::new("[schedule]\nfile = \"maintenance.toml\"\n");
    let schedule = "timezone = \"America/Chicago\"\n[[window]]\nstart = \"2026-04-24 19:00\"\nduration = \"1h\"\n\
                    message = \"\"\"\nWe are closed.\nPlease come back.\n\"\"\"\n";
    let crlf = schedule.replace('\n', "\r\n");
    machine.write("maintenance.toml", &crlf);
    is_fine(&machine);
    // A message keeps its lines, and nothing of how they ended.
    let read = forebay::gate::parse_schedule(&crlf).unwrap();
    assert_eq!(read.windows[0].message, "We are closed.\nPlease come back.");
    machine.write("maintenance.toml", &format!("\u{feff}{crlf}"));
    is_fine(&machine);
    let utf16: Vec<u8> = std::iter::once(0xfeff).chain(crlf.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    fs::write(machine.path().join("maintenance.toml"), &utf16).unwrap();
    is_fine(&machine);
    fs::write(machine.path().join("maintenance.toml"), [&utf16[..], b"x"].concat()).unwrap();
    is_fault(&machine, "save it as UTF-8");
    machine.write("maintenance.toml", &schedule.replace("come", "co\\u0007me"));
    is_fault(&machine, "control characters");
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("maintenance.toml", schedule);
    machine.write("forebay.toml", &format!("\u{feff}{}", config.replace('\n', "\r\n")));
    is_fine(&machine);
}

#[test]
fn a_message_with_the_line_ends_of_windows_is_in_force_and_shown() {
    let mut machine = Machine::new("");
    machine.start();
    machine.ok(&["gate", "close", "--reason", "typed\r", "--message", "We are closed.\r\nCome back.\r\n"]);
    assert!(machine.ok(&["gate", "status", "--json"]).contains("We are closed.\\nCome back.\""));
}

/// What `ssh-keygen` makes of a key, in a file.
fn convert(of: &Path, form: &str, to: &Path) {
    let output = Command::new("ssh-keygen").args(["-e", "-m", form, "-f"]).arg(of).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::write(to, output.stdout).unwrap();
}

#[test]
fn keys_come_in_every_form_that_can_be_read_in_one_way() {
    let machine = Machine::new("");
    machine.add_partner("clinic", "secret");
    for (kind, at) in [("ed25519", 0), ("rsa", 1), ("ecdsa", 2)] {
        let key = machine.path().join(kind);
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-C", "me@there", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let public = key.with_extension("pub");
        let file = machine.path().join("given");
        let given = file.to_str().unwrap();
        convert(&public, "RFC4716", &file);
        let added = machine.ok(&["partner", "key", "add", "clinic", given]);
        let fingerprint = added.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned();
        let text = fs::read_to_string(&public).unwrap();
        // It is there already: so this is the same key, and it was read.
        let middle = text.len() / 2;
        for form in [
            format!("\u{feff}{}\r\n", text.trim()),
            format!("{}\r\n{}", &text[..middle], &text[middle..]),
            text.trim().replace(' ', "\n"),
        ] {
            fs::write(&file, form).unwrap();
            let output = machine.cli(&["partner", "key", "add", "clinic", given]);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(told.contains("has the key") && told.contains(&fingerprint), "{kind}: {told}");
        }
        // ssh-keygen has no PEM of Ed25519.
        for form in [("rsa", "PEM"), ("rsa", "PKCS8"), ("ecdsa", "PKCS8")].iter().filter(|form| form.0 == kind) {
            convert(&public, form.1, &file);
            let output = machine.cli(&["partner", "key", "add", "clinic", given]);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let hint = format!("ssh-keygen -i -m {} -f", form.1);
            assert!(output.status.code() == Some(2) && told.contains(&hint), "{kind}: {told}");
        }
        assert_eq!(machine.ok(&["partner", "key", "list", "clinic", "--json"]).lines().count(), at + 1);
    }
}

//! Clients that partners use: each uploads, goes on with what was cut, lists and downloads, in the clear and in TLS as
//! far as it can. What was uploaded is compared by digest in the queue, what was downloaded byte by byte.
//!
//! `tests/run` installs the clients. docs/PARTNERS.md has the table of what works and how.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    io::{Cursor, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use harness::{
    files_below,
    site::{ALL_MODES, Mode, PASSWORD, Site, USER, same, text},
    stream::trusting,
    wait_until,
};
use suppaftp::{FtpStream, RustlsConnector, RustlsFtpStream, types::FileType};

/// More than the kernel keeps in its buffers.
const LARGE: usize = 3_000_000;
const SMALL: usize = 20_000;

fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script that is given the mode, where the server is, its certificate and a file, and leaves three files.
fn scripted(site: &Site, program: &str, name: &str) {
    let (path, bytes) = site.source("whole.bin", LARGE);
    for mode in ALL_MODES {
        let at = site.address(mode);
        let seeded = format!("{mode}/cut.bin");
        // The directory is there already when the partial is kept; MKD of the client must not mind.
        site.cut(&seeded, &bytes[..1_234_567]);
        let said = site.run(
            program,
            &[
                &script(name),
                &mode.to_string(),
                "localhost",
                &at.port().to_string(),
                USER,
                PASSWORD,
                text(&site.certificate()),
                text(&path),
            ],
        );
        println!("{mode}: {}", said.trim());
        for stored in ["whole.bin", "named.bin", "cut.bin"] {
            site.assert_kept(&format!("{mode}/{stored}"), &bytes);
        }
    }
}

#[test]
fn curl() {
    let site = Site::open("");
    println!("{}", site.run("curl", &["--version"]).lines().next().unwrap());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let (login, certificate) = (format!("{USER}:{PASSWORD}"), site.certificate());
    for mode in ALL_MODES {
        let mut common = vec!["--silent", "--show-error", "--user", &login, "--cacert", text(&certificate)];
        if mode == Mode::Explicit {
            common.push("--ssl-reqd");
        }
        let curl = |arguments: &[&str]| site.run("curl", &[&common, arguments].concat());
        let url = |name: &str| format!("{}/{mode}/{name}", site.url(mode));
        curl(&["--ftp-create-dirs", "--upload-file", text(&path), &url("whole.bin")]);
        site.assert_kept(&format!("{mode}/whole.bin"), &bytes);
        let renames = ["-RNFR named.part", "-RNTO named.bin"];
        curl(&["--upload-file", text(&path), "--quote", renames[0], "--quote", renames[1], &url("named.part")]);
        site.assert_kept(&format!("{mode}/named.bin"), &bytes);

        site.cut(&format!("{mode}/cut.bin"), &bytes[..1_000_000]);
        curl(&["--continue-at", "-", "--upload-file", text(&path), &url("cut.bin")]);
        site.assert_kept(&format!("{mode}/cut.bin"), &bytes);

        let back = site.path("back.bin");
        curl(&["--output", text(&back), &url("whole.bin")]);
        same(&back, &bytes);
        fs::write(&back, &bytes[..999]).unwrap();
        curl(&["--continue-at", "-", "--output", text(&back), &url("whole.bin")]);
        same(&back, &bytes);
        curl(&["--range", "100-199", "--output", text(&back), &url("whole.bin")]);
        same(&back, &bytes[100..200]);
        assert!(curl(&["--list-only", &url("")]).contains("named.bin"));
        // From a pipe, and several files over one connection.
        let many: String = (0..5)
            .map(|n| {
                let (small, _) = site.source(&format!("{mode}-{n}.bin"), SMALL + n);
                format!("upload-file = \"{}\"\nurl = \"{}\"\n", text(&small), url(&format!("{n}.bin")))
            })
            .collect();
        let config = site.path("curl.config");
        fs::write(&config, many).unwrap();
        curl(&["--config", text(&config)]);
        for n in 0..5 {
            let (_, small) = site.source(&format!("{mode}-{n}.bin"), SMALL + n);
            site.assert_kept(&format!("{mode}/{n}.bin"), &small);
        }
    }
}

#[test]
fn lftp() {
    let site = Site::open("");
    println!("{}", site.run("lftp", &["--version"]).lines().next().unwrap());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let tree: Vec<_> = (0..40).map(|n| (n, site.source(&format!("tree/d{}/f{n}.hl7", n % 4), SMALL + n).1)).collect();
    let tree_path = site.path("outgoing/tree");
    for mode in ALL_MODES {
        let ssl = if mode == Mode::Plain { "set ftp:ssl-allow no" } else { "set ftp:ssl-force yes" };
        let opening = format!(
            "set cmd:fail-exit yes; set net:max-retries 2; set ssl:ca-file {}; {ssl}; set ftp:ssl-protect-data yes; \
             open -u {USER},{PASSWORD} {}",
            text(&site.certificate()),
            site.url(mode).replace("127.0.0.1", "localhost"),
        );
        let lftp = |commands: &str| site.run("lftp", &["--norc", "-c", &format!("{opening}; {commands}")]);
        lftp(&format!(
            "mkdir {mode}; cd {mode}; put {} -o whole.bin; mirror --reverse --parallel=4 {} tree",
            text(&path),
            text(&tree_path)
        ));
        site.assert_kept(&format!("{mode}/whole.bin"), &bytes);
        for (n, bytes) in &tree {
            site.assert_kept(&format!("{mode}/tree/d{}/f{n}.hl7", n % 4), bytes);
        }
        // Nothing has changed, so nothing is sent again.
        let count = site.queue().len();
        lftp(&format!("cd {mode}; mirror --reverse --only-newer {} tree", text(&tree_path)));
        lftp(&format!("cd {mode}; mirror --reverse --ignore-time {} tree", text(&tree_path)));
        lftp(&format!("cd {mode}; mirror --reverse {} tree", text(&tree_path)));
        assert_eq!(site.queue().len(), count);

        let back = site.path(&format!("back-{mode}"));
        fs::create_dir_all(&back).unwrap();
        let into = text(&back);
        lftp(&format!("lcd {into}; cd {mode}; pget -n 4 whole.bin; mirror --parallel=3 tree"));
        same(&back.join("whole.bin"), &bytes);
        for (n, bytes) in &tree {
            same(&back.join(format!("tree/d{}/f{n}.hl7", n % 4)), bytes);
        }
        killed_and_continued(&site, &opening, mode, &path, &bytes);
    }
}

/// `put` is killed in the middle, and `put -c` goes on where it was.
fn killed_and_continued(site: &Site, opening: &str, mode: Mode, path: &Path, bytes: &[u8]) {
    let kept = || site.partials().iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum::<u64>();
    let under_way = || files_below(&site.machine.data().join("tmp"));
    let slow = format!("{opening}; set net:limit-total-rate 0:600000; cd {mode}; put {} -o cut.bin", text(path));
    let mut client = Command::new("lftp").args(["--norc", "-c", &slow]).stdin(Stdio::null()).spawn().unwrap();
    wait_until("some of it is there", || {
        under_way().iter().filter_map(|path| fs::metadata(path).ok()).any(|meta| meta.len() > 300_000)
    });
    client.kill().unwrap();
    client.wait().unwrap();
    wait_until("the partial is kept", || kept() > 0);
    assert!(kept() < bytes.len() as u64);
    let before = site.queue().len();
    let said = site
        .run("lftp", &["--norc", "-c", &format!("{opening}; cd {mode}; debug 9; put -c {} -o cut.bin", text(path))]);
    site.assert_kept(&format!("{mode}/cut.bin"), bytes);
    assert_eq!(site.queue().len(), before + 1);
    assert!(said.contains("REST ") || said.contains("APPE "), "it did not go on where it was:\n{said}");
}

#[test]
fn ncftp() {
    let site = Site::open("");
    let (_, version) = site.try_run("ncftpput", &["--version"], "");
    println!("{}", version.lines().next().unwrap());
    let (path, bytes) = site.source("whole.bin", LARGE);
    let tree: Vec<_> = (0..10).map(|n| site.source(&format!("tree/f{n}.hl7"), SMALL + n).1).collect();
    let port = site.machine.ftp.port().to_string();
    let login = ["-V", "-u", USER, "-p", PASSWORD, "-P", &port];
    let put = |arguments: &[&str]| site.run("ncftpput", &[&login, arguments].concat());
    put(&["-m", "127.0.0.1", "/plain", text(&path)]);
    site.assert_kept("plain/whole.bin", &bytes);
    put(&["-R", "127.0.0.1", "/plain", text(&site.path("outgoing/tree"))]);
    for (n, bytes) in tree.iter().enumerate() {
        site.assert_kept(&format!("plain/tree/f{n}.hl7"), bytes);
    }
    put(&["-S", ".part", "-C", "127.0.0.1", text(&path), "/plain/named.bin"]);
    site.assert_kept("plain/named.bin", &bytes);
    let (cut, bytes_cut) = site.source("cut.bin", LARGE);
    site.cut("plain/cut.bin", &bytes_cut[..1_000_000]);
    // With sendfile it sends the whole file behind the beginning: a fault of this version.
    put(&["-s", "-z", "127.0.0.1", "/plain", text(&cut)]);
    site.assert_kept("plain/cut.bin", &bytes_cut);
    let back = site.path("back");
    fs::create_dir_all(&back).unwrap();
    site.run("ncftpget", &[&login[..], &["127.0.0.1", text(&back), "/plain/whole.bin"]].concat());
    same(&back.join("whole.bin"), &bytes);
    let listed = site.run("ncftpls", &["-u", USER, "-p", PASSWORD, "-P", &port, "ftp://127.0.0.1/plain/"]);
    assert!(listed.contains("whole.bin") && listed.contains("cut.bin"), "{listed}");
}

#[test]
fn python_ftplib() {
    let site = Site::open("");
    scripted(&site, "python3", "ftplib_client.py");
    site.assert_kept("explicit/lines.txt", b"one\r\ntwo\r\n");
}

#[test]
fn aioftp() {
    let site = Site::open("");
    let python = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/bin/python");
    scripted(&site, text(&python), "aioftp_client.py");
    let (_, bytes) = site.source("whole.bin", LARGE);
    for mode in ALL_MODES {
        for n in 0..8 {
            site.assert_kept(&format!("{mode}/parallel-{n}.bin"), &bytes[n..]);
        }
    }
}

/// Runs a program that is given what [`scripted`] gives, goes on with an upload that was cut, and leaves what
/// [`Site::assert_used`] says.
fn used(program: &[&str]) {
    let site = Site::open("");
    let (path, bytes) = site.source("whole.bin", LARGE);
    for mode in ALL_MODES {
        site.cut(&format!("{mode}/cut.bin"), &bytes[..1_234_567]);
        use_by(&site, program, mode, &path);
        site.assert_kept(&format!("{mode}/cut.bin"), &bytes);
        site.assert_used(&mode.to_string(), &bytes);
    }
    site.assert_handed_over();
}

fn use_by(site: &Site, program: &[&str], mode: Mode, path: &Path) {
    let (certificate, at, name) = (site.certificate(), site.address(mode).port().to_string(), mode.to_string());
    let given = [&name, "localhost", &at, USER, PASSWORD, text(&certificate), text(path)];
    println!("{mode}: {}", site.run(program[0], &[&program[1..], &given].concat()).trim());
}

#[test]
fn commons_net() {
    used(&["java", "-cp", "/usr/share/java/commons-net.jar", &script("CommonsNet.java")]);
}

#[test]
fn basic_ftp_for_node() {
    used(&["node", &script("basic_ftp_client.js")]);
}

/// It writes a file as STOR, REST and STOR, and so on, 64 KiB each, and knows no way to go on with one that was cut. With
/// `AUTH TLS` each of these is proven to be whole, so that only a wait leaves time for the next. With TLS from the start
/// it sends data in the clear.
#[test]
fn fsspec() {
    let site = Site::limited("", "[ingest]\nrename_wait = \"5s\"");
    let (path, bytes) = site.source("whole.bin", LARGE);
    let python = format!("{}/target/tools/python/bin/python", env!("CARGO_MANIFEST_DIR"));
    for mode in [Mode::Plain, Mode::Explicit] {
        use_by(&site, &[&python, &script("fsspec_client.py")], mode, &path);
        site.assert_used(&mode.to_string(), &bytes);
    }
    site.assert_handed_over();
}

/// It knows no TLS from the start.
#[test]
fn php_ftp() {
    let site = Site::open("");
    let (path, bytes) = site.source("whole.bin", LARGE);
    for mode in [Mode::Plain, Mode::Explicit] {
        site.cut(&format!("{mode}/cut.bin"), &bytes[..1_234_567]);
        use_by(&site, &["php", &script("php_ftp.php")], mode, &path);
        site.assert_kept(&format!("{mode}/cut.bin"), &bytes);
        site.assert_used(&mode.to_string(), &bytes);
    }
    site.assert_handed_over();
}

#[test]
fn perl_net_ftp() {
    scripted(&Site::open(""), "perl", "net_ftp.pl");
}

#[test]
fn rclone() {
    let site = Site::open("");
    println!("{}", site.run("rclone", &["version"]).lines().next().unwrap());
    let (_, bytes) = site.source("tree/whole.bin", LARGE);
    let small: Vec<_> = (0..12).map(|n| site.source(&format!("tree/d{}/f{n}.hl7", n % 3), SMALL + n).1).collect();
    let tree = site.path("outgoing/tree");
    let hidden = site.run("rclone", &["obscure", PASSWORD]);
    for mode in ALL_MODES {
        let at = site.address(mode);
        let port = at.port().to_string();
        let mut options = vec!["--config", "", "--ftp-host", "localhost", "--ftp-port", &port, "--ftp-user", USER];
        options.extend(["--ftp-pass", hidden.trim(), "--retries", "1", "--low-level-retries", "1"]);
        match mode {
            Mode::Plain => {}
            Mode::Explicit => options.push("--ftp-explicit-tls"),
            Mode::Implicit => options.push("--ftp-tls"),
        }
        let there = format!(":ftp:{mode}");
        let rclone = |arguments: &[&str], input: &str| site.run_with("rclone", &[&options, arguments].concat(), input);
        rclone(&["copy", text(&tree), &there], "");
        site.assert_kept(&format!("{mode}/whole.bin"), &bytes);
        for (n, bytes) in small.iter().enumerate() {
            site.assert_kept(&format!("{mode}/d{}/f{n}.hl7", n % 3), bytes);
        }
        rclone(&["check", "--download", text(&tree), &there], "");
        rclone(&["rcat", &format!("{there}/piped.txt")], "from a pipe\n");
        site.assert_kept(&format!("{mode}/piped.txt"), b"from a pipe\n");
        let back = site.path(&format!("back-{mode}"));
        rclone(&["copy", &there, text(&back)], "");
        same(&back.join("whole.bin"), &bytes);
        same(&back.join("piped.txt"), b"from a pipe\n");
        // What is there already is not sent again.
        let count = site.queue().len();
        rclone(&["copy", "--size-only", text(&tree), &there], "");
        assert_eq!(site.queue().len(), count);
    }
}

#[test]
fn inetutils_ftp() {
    let site = Site::open("active = true");
    println!("{}", site.run("inetutils-ftp", &["--version"]).lines().next().unwrap());
    interactive(&site, "inetutils-ftp", &["--no-login", "--no-prompt", "--passive"], "passive");
    interactive(&site, "inetutils-ftp", &["--no-login", "--no-prompt"], "active");
}

#[test]
fn tnftp() {
    let site = Site::open("active = true");
    interactive(&site, "tnftp", &["-n", "-i", "-v", "-p"], "passive");
    interactive(&site, "tnftp", &["-n", "-i", "-v", "-A"], "active");
    let (path, bytes) = site.source("by-url.bin", LARGE);
    let url = format!("ftp://{USER}:{PASSWORD}@{}/by-url.bin", site.machine.ftp);
    site.run("tnftp", &["-u", &url, text(&path)]);
    site.assert_kept("by-url.bin", &bytes);
    let back = site.path("by-url.back");
    site.run("tnftp", &["-o", text(&back), &url]);
    same(&back, &bytes);
}

/// The classic client, which reads its commands from standard input. Some end with 0 whatever went wrong, so what is
/// kept is all that counts.
fn interactive(site: &Site, program: &str, options: &[&str], directory: &str) {
    let (path, bytes) = site.source("whole.bin", LARGE);
    let (cut, bytes_cut) = site.source("cut.bin", LARGE);
    let small: Vec<_> = (0..5).map(|n| site.source(&format!("m{n}.hl7"), SMALL + n).1).collect();
    let back = site.path(&format!("back-{directory}"));
    site.cut(&format!("{directory}/cut.bin"), &bytes_cut[..1_000_000]);
    let commands = format!(
        "user {USER} {PASSWORD}\nbinary\ncd {directory}\nput {} whole.bin\nput {} named.part\n\
         rename named.part named.bin\nlcd {}\nmput m0.hl7 m1.hl7 m2.hl7 m3.hl7 m4.hl7\nrestart 1000000\nput {} cut.bin\n\
         get whole.bin {}\nls\nsize whole.bin\nbye\n",
        text(&path),
        text(&path),
        text(path.parent().unwrap()),
        text(&cut),
        text(&back),
    );
    let port = site.machine.ftp.port().to_string();
    let said = site.run_with(program, &[options, &["127.0.0.1", &port]].concat(), &commands);
    println!("{said}");
    site.assert_kept(&format!("{directory}/whole.bin"), &bytes);
    site.assert_kept(&format!("{directory}/named.bin"), &bytes);
    for (n, bytes) in small.iter().enumerate() {
        site.assert_kept(&format!("{directory}/m{n}.hl7"), bytes);
    }
    site.assert_kept(&format!("{directory}/cut.bin"), &bytes_cut);
    same(&back, &bytes);
}

#[test]
fn suppaftp() {
    let site = Site::open("");
    let (_, bytes) = site.source("whole.bin", LARGE);
    for mode in ALL_MODES {
        site.cut(&format!("{mode}/cut.bin"), &bytes[..1_000_000]);
        let at = site.address(mode);
        let connector = || RustlsConnector::from(trusting());
        match mode {
            Mode::Plain => served(FtpStream::connect(at).unwrap(), mode, &bytes),
            Mode::Explicit => {
                let ftp = RustlsFtpStream::connect(at).unwrap().into_secure(connector(), "localhost").unwrap();
                served(ftp, mode, &bytes);
            }
            Mode::Implicit => {
                let ftp = RustlsFtpStream::connect_secure_implicit(at, connector(), "localhost").unwrap();
                served(ftp, mode, &bytes);
            }
        }
        for name in ["whole.bin", "named.bin", "cut.bin"] {
            site.assert_kept(&format!("{mode}/{name}"), &bytes);
        }
    }
}

fn served<T>(mut ftp: suppaftp::ImplFtpStream<T>, mode: Mode, bytes: &[u8])
where
    T: suppaftp::TlsStream + Send + 'static,
{
    ftp.login(USER, PASSWORD).unwrap();
    ftp.transfer_type(FileType::Binary).unwrap();
    ftp.cwd(mode.to_string()).unwrap();
    assert_eq!(ftp.put_file("whole.bin", &mut Cursor::new(bytes)).unwrap(), bytes.len() as u64);
    ftp.put_file("named.part", &mut Cursor::new(bytes)).unwrap();
    ftp.rename("named.part", "named.bin").unwrap();
    let kept = ftp.size("cut.bin").unwrap();
    assert_eq!(kept, 1_000_000);
    ftp.resume_transfer(kept).unwrap();
    ftp.put_file("cut.bin", &mut Cursor::new(&bytes[kept..])).unwrap();
    let mut back = Vec::new();
    ftp.retr_as_buffer("whole.bin").unwrap().read_to_end(&mut back).unwrap();
    assert!(back == bytes);
    let mut names = ftp.nlst(None).unwrap();
    names.sort();
    assert_eq!(names, ["cut.bin", "named.bin", "whole.bin"]);
    assert_eq!(ftp.mlsd(None).unwrap().len(), 3);
    ftp.quit().unwrap();
}

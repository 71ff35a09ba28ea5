//! Partners that send and fetch files through the web services, and strangers who try to: over real connections, by curl and
//! byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where something is missing, and reads the machine's clock"
)]

mod harness;

use std::{
    io::{Read, Write},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use forebay::{
    clock::SetClock,
    doors::web::{Options, Tls},
    gate, partners,
};
use forebay_queue::State;
use harness::{
    Door, House, PARTNER, PASSWORD, Plan,
    http::{Answer, connected, raw, read_to_end, request},
};
use sha2::{Digest, Sha256};

const SENTENCE: &str = "Service Unavailable. The server is temporarily unable to service your request due to maintenance downtime or capacity \
    problems. Please try again later.";

/// `Clinic` and its password.
const BASIC: &str = "Authorization: Basic Q2xpbmljOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==\r\n";

fn house() -> House {
    house_with(Plan::default())
}

fn house_with(plan: Plan) -> House {
    House::new(Plan { web: Some(plan.web.unwrap_or_default()), receipts: true, outbox: true, ..plan })
}

fn ask(house: &House, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    Answer::parsed(&raw(house.web.unwrap(), &request(method, path, headers, body)))
}

fn get(house: &House, path: &str) -> Answer {
    ask(house, "GET", path, BASIC, b"")
}

fn post(house: &House, name: &str, headers: &str, body: &[u8]) -> Answer {
    ask(house, "POST", &format!("/v1/files?name={name}"), &format!("{BASIC}{headers}"), body)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// curl with these arguments; what it printed.
fn curl(arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new("curl").args(["-sS", "--max-time", "30", "--noproxy", "*"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn nothing_is_kept(house: &House) {
    house.wait_alone();
    assert_eq!(house.entries(), [], "nothing is queued");
    let left = harness::files_below(&house.path("partials"));
    assert!(left.is_empty(), "nothing is kept: {left:?}");
    assert!(harness::files_below(&house.path("tmp")).is_empty());
}

#[test]
fn curl_sends_a_file_and_reads_what_became_of_it() {
    let house = house();
    let (user, at) = (format!("{PARTNER}:{PASSWORD}"), format!("http://{}", house.web.unwrap()));
    // One that rides in the log, and one with a file of its own.
    for (name, size) in [("small.hl7", 3_000), ("large.hl7", 5 << 20)] {
        let content: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let path = house.path(name);
        std::fs::write(&path, &content).unwrap();
        let (data, url) = (format!("@{}", path.display()), format!("{at}/v1/files?name={name}"));
        let told = curl(&["-i", "-u", &user, "--data-binary", &data, "-H", "Expect:", &url]);
        let answer = Answer::parsed(&told);
        assert_eq!(answer.status, 201, "{answer:?}");
        let receipt = answer.json();
        assert_eq!((&receipt["name"], &receipt["bytes"]), (&name.into(), &size.into()));
        assert_eq!(receipt["sha256"], hex(&Sha256::digest(&content)));
        let entry = house.entries().into_iter().find(|entry| entry.name == name).expect("it is queued");
        assert_eq!((entry.state, entry.door.as_str()), (State::Ready, "web"));
        assert_eq!(receipt["id"], entry.id.to_string());
        assert_eq!(house.bytes(&entry), content);
        assert_eq!(answer.header("location"), format!("/v1/files/{}", entry.id));
        let told = curl(&["-u", &user, &format!("{at}{}", answer.header("location"))]);
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!((&told["state"], &told["deferred"]), (&"ready".into(), &false.into()));
    }
    let form = format!("file=@{};filename=form.hl7", house.path("small.hl7").display());
    let told = curl(&["-u", &user, "-F", &form, &format!("{at}/v1/files")]);
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert_eq!((&told["name"], &told["bytes"]), (&"form.hl7".into(), &3_000.into()));
    assert_eq!(house.states("form.hl7"), [State::Ready]);
}

#[test]
fn a_body_in_chunks_is_a_file_too() {
    let house = house();
    let head = format!("POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n{BASIC}Transfer-Encoding: chunked\r\n\r\n");
    let answer =
        Answer::parsed(&raw(house.web.unwrap(), format!("{head}3\r\none\r\n2;x=y\r\n, \r\n0\r\n\r\n").as_bytes()));
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(house.bytes(&house.entries()[0]), b"one, ");
    let empty = post(&house, "empty", "", b"");
    assert_eq!((empty.status, &empty.json()["bytes"]), (201, &0.into()), "an empty file is one, as over FTP");
}

#[test]
fn who_has_not_logged_in_learns_nothing() {
    let house = house();
    for (method, path) in [
        ("POST", "/v1/files?name=a"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/00000000-0000-7000-8000-000000000000"),
        ("GET", "/v1/files/nonsense"),
        ("GET", "/v1/out/"),
        ("GET", "/v1/out/NOTICE.txt"),
    ] {
        let wrong = "Authorization: Basic Q2xpbmljOndyb25n\r\n";
        for headers in ["", "Authorization: Basic !\r\n", "Authorization: Digest x\r\n", wrong] {
            // The lockout is another test's.
            if headers == wrong && path != "/v1/files" {
                continue;
            }
            let told = ask(&house, method, path, headers, b"");
            told.assert_problem(401, None);
            assert!(told.header("www-authenticate").starts_with("Basic realm="), "{}", told.head);
        }
        let twice = ask(&house, method, path, &format!("{BASIC}{BASIC}"), b"");
        twice.assert_problem(400, Some("Authorization"));
    }
    nothing_is_kept(&house);
    let open = ask(&house, "GET", "/v1/openapi.json", "", b"");
    assert_eq!((open.status, open.header("content-type")), (200, "application/json"));
    assert!(open.json()["paths"]["/v1/files"]["post"].is_object());
}

#[test]
fn a_refusal_names_what_is_wrong_and_nothing_is_kept() {
    let house = house();
    let of = |path: &str, headers: &str| ask(&house, "POST", path, &format!("{BASIC}{headers}"), b"some");
    of("/v1/files", "").assert_problem(400, Some("name"));
    for name in ["", "..", "../a", "a/../b", "%2e%2e/a", "/", "a/", "a%00b", "%ff", "a&name=b", "a%0ab"] {
        of(&format!("/v1/files?name={name}"), "").assert_problem(400, Some("name"));
    }
    of("/v1/files?name=missing/a", "").assert_problem(404, None);
    of("/v1/files?name=out/a", "").assert_problem(403, None);
    for coding in ["gzip", "GZIP", "identity, br"] {
        let told = of("/v1/files?name=a", &format!("Content-Encoding: {coding}\r\n"));
        told.assert_problem(415, Some("Content-Encoding"));
        assert_eq!(told.header("accept-encoding"), "identity");
    }
    of("/v1/files?name=a", "Content-Range: bytes 0-3/8\r\n").assert_problem(400, Some("Content-Range"));
    for digest in ["sha-256=:AA==:", "sha-512=:AA==:", "nonsense", "sha-256=AA"] {
        of("/v1/files?name=a", &format!("Content-Digest: {digest}\r\n")).assert_problem(400, Some("Content-Digest"));
    }
    of("/v1/files", "Content-Type: multipart/form-data\r\n").assert_problem(400, Some("Content-Type"));
    of("/v1/files", "Content-Type: multipart/form-data; boundary=x\r\n").assert_problem(400, Some("file"));
    get(&house, "/v1/files?after=nonsense!").assert_problem(400, Some("after"));
    get(&house, "/v1/files?after=zzzz").assert_problem(400, Some("after"));
    for limit in ["0", "1001", "x", "-1"] {
        get(&house, &format!("/v1/files?limit={limit}")).assert_problem(400, Some("limit"));
    }
    get(&house, "/v1/files/nonsense").assert_problem(404, None);
    get(&house, "/v1/elsewhere").assert_problem(404, None);
    for (method, path, allowed) in [
        ("DELETE", "/v1/files", "GET,HEAD,POST"),
        ("PUT", "/v1/files/x", "GET,HEAD"),
        ("QUERY", "/v1/files", "GET,HEAD,POST"),
        ("POST", "/v1/out/", "GET,HEAD"),
        ("DELETE", "/v1/out/a", "GET,HEAD"),
        ("PATCH", "/v1/openapi.json", "GET,HEAD"),
        ("OPTIONS", "/v1/files", "GET,HEAD,POST"),
        ("TRACE", "/v1/files", "GET,HEAD,POST"),
    ] {
        let told = ask(&house, method, path, BASIC, b"");
        told.assert_problem(405, None);
        let mut allow: Vec<_> = told.header("allow").split(',').map(str::trim).collect();
        allow.sort_unstable();
        assert_eq!(allow.join(","), allowed, "{method} {path}: {}", told.head);
    }
    nothing_is_kept(&house);
    let good = hex_to_base64(&Sha256::digest(b"some"));
    let told = of("/v1/files?name=a", &format!("Content-Digest: unknown=:AA==:, sha-256=:{good}:\r\n"));
    assert_eq!(told.status, 201, "{told:?}");
}

fn hex_to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let sextet = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= three.len() { DIGITS[sextet as usize].into() } else { '=' });
        }
    }
    text
}

#[test]
fn a_form_has_exactly_one_file_and_ends() {
    let house = house();
    let part = |name: &str, content: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n{content}\r\n")
    };
    let kind = "Content-Type: multipart/form-data; boundary=x\r\n";
    let sent = |query: &str, headers: &str, body: &str| {
        ask(&house, "POST", &format!("/v1/files{query}"), &format!("{BASIC}{kind}{headers}"), body.as_bytes())
    };
    for bad in [
        "--x--\r\n".to_owned(),
        part("a", "one"),
        part("a", "one") + "--x",
        part("a", "one") + &part("b", "two") + "--x--",
        part("a", "one") + "--x\r\nContent-Disposition: form-data; name=\"g\"\r\n\r\nfield\r\n--x--",
        "--x\r\nContent-Disposition: form-data; name=\"g\"\r\n\r\nfield\r\n--x--".to_owned(),
    ] {
        sent("", "", &bad).assert_problem(400, Some("file"));
    }
    let coded = part("a", "b25l").replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n") + "--x--";
    sent("", "", &coded).assert_problem(415, Some("Content-Transfer-Encoding"));
    sent("", "", &(part("..", "one") + "--x--")).assert_problem(400, Some("name"));
    let body = part("../../etc/passwd", "one") + "--x--\r\nepilogue";
    sent("", "Content-Digest: sha-256=:AA==:\r\n", &body).assert_problem(400, Some("Content-Digest"));
    nothing_is_kept(&house);
    // The digest is of the content as it is sent, the form with all around it.
    let digest = format!("Content-Digest: sha-256=:{}:\r\n", hex_to_base64(&Sha256::digest(body.as_bytes())));
    let told = sent("", &digest, &body);
    assert_eq!((told.status, &told.json()["name"]), (201, &"passwd".into()), "{told:?}");
    assert_eq!(house.bytes(&house.entries()[0]), b"one");
    let named = sent("?name=b.hl7", "", &(part("a", "") + "--x--"));
    assert_eq!((named.status, &named.json()["name"]), (201, &"b.hl7".into()), "{named:?}");
}

#[test]
fn what_is_larger_than_it_may_be_is_refused_soon() {
    let policy = partners::Policy { max_file_bytes: Some(1 << 20), ..partners::Policy::default() };
    let house = house_with(Plan { policy, ..Plan::default() });
    let began = Instant::now();
    let head = format!("POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n{BASIC}");
    let declared = format!("{head}Content-Length: {}\r\n\r\n", 10u64 << 30);
    let told = Answer::parsed(&raw(house.web.unwrap(), declared.as_bytes()));
    told.assert_problem(413, None);
    let waits = format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", 2 << 20);
    let told = raw(house.web.unwrap(), waits.as_bytes());
    assert!(told.starts_with(b"HTTP/1.1 413"), "nobody is told to go on: {}", String::from_utf8_lossy(&told));
    assert!(began.elapsed() < Duration::from_secs(10));
    // In chunks it shows late; the sender comes to read the answer.
    let mut stream = connected(house.web.unwrap());
    stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
    for _ in 0..20 {
        stream.write_all(&chunk).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    Answer::parsed(&read_to_end(&mut stream)).assert_problem(413, None);
    nothing_is_kept(&house);
}

#[test]
fn a_spent_quota_and_a_full_disk_are_told_apart() {
    let policy = partners::Policy { quota_bytes: Some(10), ..partners::Policy::default() };
    let house = house_with(Plan { policy, ..Plan::default() });
    assert_eq!(post(&house, "a", "", b"1234567").status, 201);
    post(&house, "b", "", b"1234567").assert_problem(403, None);
    let full = house_with(Plan { reserve_bytes: u64::MAX / 2, ..Plan::default() });
    let told = post(&full, "a", "", b"some");
    told.assert_problem(503, None);
    assert_eq!(told.json()["type"], "urn:forebay:storage-full", "it is not maintenance");
    assert!(!told.header("retry-after").is_empty());
    nothing_is_kept(&full);
}

#[test]
fn a_body_that_is_cut_or_stands_still_leaves_nothing() {
    let limits = partners::Limits { stalled: Duration::from_millis(400), ..Plan::default().limits };
    let house = house_with(Plan { limits, ..Plan::default() });
    let head = format!("POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Length: 200000\r\n\r\n");
    let some = [head.as_bytes(), &[b'x'; 150_000][..]].concat();
    // Its sender closes its side, or vanishes.
    let mut stream = connected(house.web.unwrap());
    stream.write_all(&some).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let told = read_to_end(&mut stream);
    assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&told));
    let mut stream = connected(house.web.unwrap());
    stream.write_all(&some).unwrap();
    drop(stream);
    nothing_is_kept(&house);
    // It stands still.
    let told = Answer::parsed(&raw(house.web.unwrap(), &some));
    told.assert_problem(408, None);
    let chunked =
        format!("POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n{BASIC}Transfer-Encoding: chunked\r\n\r\n5\r\nab");
    Answer::parsed(&raw(house.web.unwrap(), chunked.as_bytes())).assert_problem(408, None);
    nothing_is_kept(&house);
}

#[test]
fn a_body_that_drips_ends_with_its_time() {
    let options = Options { longest_per_gib: Duration::from_millis(600), ..Options::default() };
    let house = house_with(Plan { web: Some(options), ..Plan::default() });
    let mut stream = connected(house.web.unwrap());
    let head = format!("POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Length: 100000\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let began = Instant::now();
    while stream.write_all(b"x").is_ok() && began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&told));
    nothing_is_kept(&house);
}

#[test]
fn no_age_of_a_connection_cuts_an_upload() {
    let options = Options {
        max_connection_age: Duration::from_millis(200),
        body_timeout: Duration::from_millis(200),
        max_body_bytes: 10,
        ..Options::default()
    };
    let house = house_with(Plan { web: Some(options), ..Plan::default() });
    let mut stream = connected(house.web.unwrap());
    let head = format!("POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Length: 70\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // Longer than the age, and than an answer in progress may take.
    for _ in 0..70 {
        stream.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let told = Answer::parsed(&read_to_end(&mut stream));
    assert_eq!(told.status, 201, "{told:?}");
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A house whose clock stands before a window of everything, and the directory with its schedule.
fn before_a_window() -> (House, SetClock, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("maintenance.toml");
    let schedule = "timezone = \"America/Chicago\"\n[[window]]\nname = \"w\"\nstart = \"2026-04-24 19:00\"\nend = \"2026-04-24 22:00\"\n";
    std::fs::write(&file, schedule).unwrap();
    let clock = SetClock::new(at("2026-04-24T23:59:00Z"));
    let gate = gate::Options { file: Some(file), ..gate::Options::default() };
    let house = house_with(Plan { gate, clock: Arc::new(clock.clone()), ..Plan::default() });
    (house, clock, directory)
}

#[test]
fn while_the_gate_is_closed_the_web_says_so_and_ftp_and_sftp_accept() {
    let (house, clock, _directory) = before_a_window();
    assert_eq!(post(&house, "open", "", b"some").status, 201);
    // One that begins before the closing ends behind it.
    let mut begun = connected(house.web.unwrap());
    let head = format!(
        "POST /v1/files?name=begun HTTP/1.1\r\nHost: x\r\n{BASIC}Connection: close\r\nContent-Length: 4\r\n\r\nso"
    );
    begun.write_all(head.as_bytes()).unwrap();
    house.wait_until("it has begun", || house.partners.sessions().iter().any(|session| session.bytes > 0));
    clock.jump_to(at("2026-04-25T01:00:00Z"));
    for (path, headers) in
        [("/", ""), ("/v1/files", ""), ("/v1/files", BASIC), ("/v1/openapi.json", ""), ("/v1/out/", BASIC)]
    {
        for accept in ["*/*", "text/html", "application/json", "text/plain"] {
            let told = ask(&house, "GET", path, &format!("{headers}Accept: {accept}\r\n"), b"");
            assert_eq!((told.status, told.header("retry-after")), (503, "7200"), "{path} {accept}");
            let body = String::from_utf8(told.body.clone()).unwrap();
            assert!(body.contains(SENTENCE), "{path} {accept}: {body}");
            if path.starts_with("/v1") && accept == "*/*" {
                assert_eq!(told.header("content-type"), "application/problem+json", "{path}");
                assert_eq!(told.json()["until"], "2026-04-24T22:00:00-05:00");
            }
        }
    }
    let refused = ask(&house, "POST", "/v1/files?name=closed", "Content-Type: text/xml\r\n", b"<some/>");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "7200"), "before any login");
    assert_eq!(refused.json()["type"], "about:blank");
    for door in [Door::Ftp, Door::Sftp] {
        house.enter(door).put(door.name(), b"some").unwrap();
        assert_eq!(house.states(door.name()), [State::Ready], "{door:?}");
    }
    for path in ["/healthz", "/readyz", "/maintenance.ics", "/calendar.ics"] {
        assert_eq!(ask(&house, "GET", path, "", b"").status, 200, "{path}");
    }
    begun.write_all(b"me").unwrap();
    let told = Answer::parsed(&read_to_end(&mut begun));
    assert_eq!(told.status, 201, "{told:?}");
    assert!(told.header("forebay-notice").starts_with("processing deferred until"), "{}", told.head);
    assert_eq!(house.states("begun"), [State::Ready]);
    assert_eq!(house.states("closed"), []);
    clock.jump_to(at("2026-04-25T03:00:00Z"));
    assert_eq!(get(&house, "/v1/files").status, 200);
    assert_eq!(post(&house, "after", "", b"some").status, 201);
}

#[test]
fn a_route_that_is_closed_alone_defers_and_refuses_nothing() {
    let house = house();
    let until = None;
    house.gate.close(vec!["all".to_owned()], until, "maintenance".into(), None, "ops".into()).unwrap();
    let told = post(&house, "a.hl7", "", b"some");
    assert_eq!((told.status, told.header("forebay-notice")), (201, "processing deferred until further notice"));
    let told = get(&house, told.header("location")).json();
    assert_eq!((&told["state"], &told["deferred"], &told["resumes"]), (&"ready".into(), &true.into(), &().into()));
}

#[test]
fn a_partner_sees_its_own_files_newest_first_whatever_door_they_came_through() {
    let house = house();
    house.partners.add(&"other".parse().unwrap(), PASSWORD, "").unwrap();
    house.enter(Door::Ftp).put("first", b"1").unwrap();
    house.enter(Door::Sftp).put("second", b"22").unwrap();
    for number in 0..5 {
        assert_eq!(post(&house, &format!("web-{number}"), "", b"333").status, 201);
    }
    let (mut names, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = get(&house, &format!("/v1/files?limit=3{after}")).json();
        names.extend(page["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
        assert!(pages < 10, "{names:?}");
    }
    assert_eq!(names, ["web-4", "web-3", "web-2", "web-1", "web-0", "second", "first"]);
    let others = format!("Authorization: Basic {}\r\n", hex_to_base64(format!("other:{PASSWORD}").as_bytes()));
    let told = ask(&house, "GET", "/v1/files", &others, b"").json();
    assert_eq!(told["files"], serde_json::json!([]));
    let id = house.entries()[0].id;
    ask(&house, "GET", &format!("/v1/files/{id}"), &others, b"").assert_problem(404, None);
    let receipt = format!("/v1/out/first.{id}.receipt.json");
    ask(&house, "GET", &receipt, &others, b"").assert_problem(404, None);
    assert_eq!(get(&house, &receipt).status, 200);
}

#[test]
fn what_lies_in_out_is_listed_and_fetched_whole_or_in_parts() {
    let house = house();
    let content: Vec<u8> = (0..300_000u32).map(|at| (at % 241) as u8).collect();
    std::fs::write(house.outbox().join("ack.hl7"), &content).unwrap();
    std::fs::create_dir(house.outbox().join("sub")).unwrap();
    std::fs::write(house.outbox().join("sub/deep.txt"), "deep").unwrap();
    let id = post(&house, "a.hl7", "", b"some").json()["id"].as_str().unwrap().to_owned();
    for path in ["/v1/out", "/v1/out/"] {
        let listed = get(&house, path).json();
        let names: Vec<_> =
            listed["names"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        let receipt = format!("a.hl7.{id}.receipt.json");
        assert!(names.contains(&"ack.hl7") && names.contains(&receipt.as_str()), "{names:?}");
        assert_eq!(listed["complete"], true);
    }
    let whole = get(&house, "/v1/out/ack.hl7");
    assert_eq!((whole.status, whole.header("content-length")), (200, "300000"));
    assert_eq!((whole.header("content-disposition"), whole.header("accept-ranges")), ("attachment", "bytes"));
    assert!(whole.body == content);
    let user = format!("{PARTNER}:{PASSWORD}");
    let url = format!("http://{}/v1/out/ack.hl7", house.web.unwrap());
    assert_eq!(curl(&["-u", &user, "-r", "1000-1999", &url]), content[1000..2000]);
    assert_eq!(curl(&["-u", &user, "-r", "-7", &url]), content[299_993..]);
    let of = |headers: &str| ask(&house, "GET", "/v1/out/ack.hl7", &format!("{BASIC}{headers}"), b"");
    let part = of("Range: bytes=299999-\r\n");
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 299999-299999/300000"));
    let beyond = of("Range: bytes=300000-\r\n");
    beyond.assert_problem(416, Some("Range"));
    assert_eq!(beyond.header("content-range"), "bytes */300000");
    let tag = whole.header("etag").to_owned();
    assert_eq!(of(&format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n")).status, 206);
    assert_eq!(of("Range: bytes=0-1\r\nIf-Range: \"another\"\r\n").status, 200);
    let head = ask(&house, "HEAD", "/v1/out/ack.hl7", BASIC, b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "300000", 0));
    assert_eq!(get(&house, "/v1/out/sub/deep.txt").body, b"deep");
    assert_eq!(get(&house, "/v1/out/sub").json()["names"][0]["name"], "deep.txt");
    for (path, status) in [
        ("/v1/out/missing", 404),
        ("/v1/out/../ack.hl7", 400),
        ("/v1/out/%2e%2e/a.hl7", 400),
        ("/v1/out/..%2fa.hl7", 400),
        ("/v1/out/%2fetc/passwd", 404),
        ("/v1/out/a%00b", 400),
    ] {
        let told = get(&house, path);
        assert_eq!(told.status, status, "{path}: {told:?}");
    }
}

#[test]
fn a_client_that_takes_nothing_keeps_no_session() {
    let limits = partners::Limits { stalled: Duration::from_millis(300), ..Plan::default().limits };
    let house = house_with(Plan { limits, ..Plan::default() });
    let file = std::fs::File::create(house.outbox().join("huge")).unwrap();
    file.set_len(64 << 20).unwrap();
    let mut stream = connected(house.web.unwrap());
    stream.write_all(&request("GET", "/v1/out/huge", BASIC, b"")).unwrap();
    let mut some = [0; 1000];
    stream.read_exact(&mut some).unwrap();
    harness::wait_until("its session ends", || house.partners.sessions().is_empty());
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20, "it is cut, and the client sees that");
}

#[test]
fn guesses_count_together_over_web_and_ftp() {
    let limits = partners::Limits { free_failures: 4, first_wait: Duration::from_secs(60), ..Plan::default().limits };
    let house = house_with(Plan { limits, ..Plan::default() });
    let guess = format!("Authorization: Basic {}\r\n", hex_to_base64(format!("{PARTNER}:guess").as_bytes()));
    let mut statuses = Vec::new();
    for round in 0..6 {
        if round % 2 == 0 {
            let told = Door::Ftp.try_enter(house.addresses(), PARTNER, "guess");
            assert!(told.is_err());
        } else {
            statuses.push(ask(&house, "GET", "/v1/files", &guess, b"").status);
        }
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let right = get(&house, "/v1/files");
    right.assert_problem(429, None);
    assert!(right.header("retry-after").parse::<u64>().unwrap() >= 1, "the right password waits too");
    assert!(Door::Ftp.try_enter(house.addresses(), PARTNER, PASSWORD).is_err(), "at every door");
}

#[test]
fn a_connection_on_which_many_guesses_were_made_ends() {
    let house = house();
    let mut stream = connected(house.web.unwrap());
    let guess = "GET /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Q2xpbmljOndyb25n\r\n\r\n";
    stream.write_all(guess.repeat(5).as_bytes()).unwrap();
    let told = String::from_utf8(read_to_end(&mut stream)).unwrap();
    assert_eq!(told.matches("HTTP/1.1 401").count(), 3, "{told}");
}

#[test]
fn passwords_in_the_clear_are_taken_from_this_machine_alone() {
    let with = |more: &str| {
        let options = toml::from_str(&format!("proxy_protocol_from = [\"127.0.0.0/8\"]\n{more}")).unwrap();
        house_with(Plan { web: Some(options), ..Plan::default() })
    };
    let ask = |house: &House, proxy: &str| {
        let bytes = [proxy.as_bytes(), &request("GET", "/v1/files", BASIC, b"")].concat();
        Answer::parsed(&raw(house.web.unwrap(), &bytes))
    };
    let (far, near) = ("PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n", "PROXY TCP4 127.0.0.1 127.0.0.1 5000 80\r\n");
    let clear = with("");
    let told = ask(&clear, far);
    told.assert_problem(403, Some("Authorization"));
    assert!(told.json()["detail"].as_str().unwrap().contains("TLS"), "{told:?}");
    assert_eq!(ask(&clear, near).status, 200);
    assert!(clear.partners.sessions().is_empty());
    // Where the world sees https the proxy speaks it.
    assert_eq!(ask(&with("url = \"https://files.example.org\""), far).status, 200);
    assert_eq!(ask(&with("url = \"http://files.example.org\""), far).status, 403);
}

#[test]
fn over_tls_curl_sends_with_a_password_or_with_a_certificate() {
    let options = Options { tls: Some(Tls::Required), ..Options::default() };
    let house = house_with(Plan { web: Some(options), ..Plan::default() });
    let (ca, user) = (house.path("tls/web/certificate.pem"), format!("{PARTNER}:{PASSWORD}"));
    let url = format!("https://127.0.0.1:{}/v1/files?name=tls.hl7", house.web.unwrap().port());
    let told = curl(&["--cacert", ca.to_str().unwrap(), "-u", &user, "-d", "some", &url]);
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["bytes"], 4, "{told}");
    // Nobody speaks in the clear there.
    let mut stream = connected(house.web.unwrap());
    stream.write_all(&request("GET", "/v1/files", BASIC, b"")).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
}

/// An authority, and a client's pair of it, in files.
fn client_pair(directory: &Path) -> [std::path::PathBuf; 3] {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "clinic");
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let files = [("ca.pem", authority_pem), ("client.pem", certificate), ("client.key", key.serialize_pem())];
    files.map(|(name, text)| {
        std::fs::write(directory.join(name), text).unwrap();
        directory.join(name)
    })
}

#[test]
fn a_bound_certificate_is_a_login_without_a_name() {
    let directory = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = client_pair(directory.path());
    let options = Options { tls: Some(Tls::Required), client_ca: Some(ca), ..Options::default() };
    let bound = format!("name = {PARTNER:?}\ncertificates = [\"CN=clinic\"]\ncertificate_suffices = true");
    let plan =
        Plan { web: Some(options), overrides: vec![toml::from_str(&bound).unwrap()], outbox: false, ..Plan::default() };
    let house = House::new(Plan { receipts: true, ..plan });
    let url = format!("https://127.0.0.1:{}/v1/files", house.web.unwrap().port());
    let server = house.path("tls/web/certificate.pem");
    let common = ["--cacert", server.to_str().unwrap(), "-o", "/dev/null", "-w", "%{http_code}"];
    let shown = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    assert_eq!(curl(&[&common[..], &shown, &[&url]].concat()), b"200");
    assert_eq!(curl(&[&common[..], &[&url]].concat()), b"401");
    // A browser with it signs in by it, and sees its files.
    let start = format!("https://127.0.0.1:{}", house.web.unwrap().port());
    let (sign_in, jar) = (format!("{start}/sign-in/certificate"), house.path("jar").display().to_string());
    assert_eq!(curl(&[&common[..], &["-X", "POST", &sign_in]].concat()), b"403");
    assert_eq!(curl(&[&common[..], &shown, &["-c", &jar, "-X", "POST", &sign_in]].concat()), b"303");
    let page = |more: &[&str]| {
        let trusted = ["--cacert", server.to_str().unwrap(), "-H", "Accept: text/html"];
        String::from_utf8(curl(&[&trusted[..], more, &[&format!("{start}/")]].concat())).unwrap()
    };
    assert!(page(&shown).contains("Sign in with the certificate of this browser"));
    assert!(!page(&[]).contains("certificate of this browser"));
    assert!(page(&["-b", &jar]).contains("Signed in as"));
}

#[test]
fn a_token_is_enough_and_guesses_of_one_wait() {
    let limits = partners::Limits { free_failures: 3, ..Plan::default().limits };
    let house = house_with(Plan { limits, ..Plan::default() });
    let name = PARTNER.parse().unwrap();
    let (kept, token) = house.partners.add_token(&name, "nightly job", None).unwrap();
    let with = |token: &str, method: &str, path: &str, body: &[u8]| {
        ask(&house, method, path, &format!("Authorization: Bearer {token}\r\n"), body)
    };
    assert_eq!(with(&token, "POST", "/v1/files?name=by-token.hl7", b"some").status, 201);
    assert_eq!(house.states("by-token.hl7"), [State::Ready]);
    assert_eq!(with(&token, "GET", "/v1/files", b"").status, 200);
    house.partners.remove_token(&name, &kept.id()).unwrap();
    with(&token, "GET", "/v1/files", b"").assert_problem(401, None);
    // The right one of another account is right there alone, and so is a right one that was changed by a letter.
    house.partners.add(&"Other".parse().unwrap(), PASSWORD, "").unwrap();
    let (_, token) = house.partners.add_token(&name, "", None).unwrap();
    for wrong in [token.replace(PARTNER, "Other"), format!("{token}x"), token[..token.len() - 1].to_owned()] {
        with(&wrong, "GET", "/v1/files", b"").assert_problem(401, None);
    }
    let waits = (0..20).map(|_| with("guess", "GET", "/v1/files", b"")).find(|told| told.status == 429);
    let waits = waits.expect("guesses wait");
    assert!(waits.header("retry-after").parse::<u64>().unwrap() >= 1, "{waits:?}");
    assert_eq!(house.entries().len(), 1);
}

#[test]
fn a_session_that_an_operator_ends_or_whose_account_is_disabled_sends_no_more() {
    let house = house();
    let head = format!("POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Length: 9\r\n\r\nsome");
    for disable in [false, true] {
        let mut stream = connected(house.web.unwrap());
        stream.write_all(head.as_bytes()).unwrap();
        house.wait_until("it has begun", || house.partners.sessions().iter().any(|session| session.bytes > 0));
        if disable {
            house.partners.disable(&PARTNER.parse().unwrap()).unwrap();
        } else {
            house.partners.kick(house.partners.sessions()[0].id).unwrap();
        }
        Answer::parsed(&read_to_end(&mut stream)).assert_problem(503, None);
    }
    nothing_is_kept(&house);
    get(&house, "/v1/files").assert_problem(401, None);
}

#[test]
fn without_services_there_are_none() {
    let options = Options { services: false, ..Options::default() };
    let house = house_with(Plan { web: Some(options), ..Plan::default() });
    for path in ["/v1/files", "/v1/openapi.json", "/v1/out/"] {
        get(&house, path).assert_problem(404, None);
    }
    assert_eq!(ask(&house, "GET", "/", "", b"").status, 200);
}

#[test]
fn a_door_that_closes_lets_an_upload_end() {
    let mut house = house();
    let mut stream = connected(house.web.unwrap());
    let head = format!("POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Length: 4\r\n\r\nso");
    stream.write_all(head.as_bytes()).unwrap();
    house.wait_until("it has begun", || house.partners.sessions().iter().any(|session| session.bytes > 0));
    let sender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"me").unwrap();
        Answer::parsed(&read_to_end(&mut stream))
    });
    let took = house.close_doors();
    assert_eq!(sender.join().unwrap().status, 201);
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert_eq!(house.states("a"), [State::Ready]);
}

//! What browsers, web services and watchdogs see of a server, over real connections: 503 in the form they speak while
//! the gate is closed, a status page while it is open, health at all times.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something is missing")]

mod harness;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use forebay::{
    clock::SetClock,
    doors::web::{Door, HealthDoor, Options, Readiness},
    gate::{self, Gate},
    partners,
};
use harness::{Parts, Plan};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

const BOUND: Duration = Duration::from_secs(20);

const SCHEDULE: &str = r#"
timezone = "America/Chicago"
[[window]]
name    = "ImmTrac2 servers"
start   = "2026-04-24 19:00"
end     = "2026-04-24 22:00"
reason  = "System maintenance"
message = "The server is temporarily unable to service your request due to maintenance downtime or capacity problems. Please try again later."
"#;

/// Friday, 20:00 in Chicago: in the window, two hours before its end.
const INSIDE: &str = "2026-04-25T01:00:00Z";
const BEFORE: &str = "2026-04-24T12:00:00Z";

struct Web {
    root: tempfile::TempDir,
    parts: Parts,
    clock: SetClock,
    gate: Arc<Gate>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

async fn web(at: &str) -> Web {
    web_with(at, SCHEDULE, Options::default(), Vec::new).await
}

async fn web_with(at: &str, schedule: &str, options: Options, readiness: impl Readiness) -> Web {
    web_within(at, schedule, options, readiness, Plan::default().limits).await
}

async fn web_within(
    at: &str,
    schedule: &str,
    options: Options,
    readiness: impl Readiness,
    limits: partners::Limits,
) -> Web {
    let root = tempfile::tempdir().unwrap();
    let clock = SetClock::new(instant(at));
    let file = root.path().join("maintenance.toml");
    std::fs::write(&file, schedule).unwrap();
    let gate = gate::Options { file: Some(file), ..gate::Options::default() };
    let plan = Plan { gate, limits, clock: Arc::new(clock.clone()), ..Plan::default() };
    let parts = Parts::open(&plan, root.path()).await;
    let door = bound("127.0.0.1:0".parse().unwrap(), options, &parts, &clock, readiness, root.path()).unwrap();
    let address = door.local_addr();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(door.run(stopped));
    Web { root, gate: parts.gate.clone(), parts, clock, address, stop, running }
}

fn bound(
    listen: SocketAddr,
    options: Options,
    parts: &Parts,
    clock: &SetClock,
    readiness: impl Readiness,
    root: &Path,
) -> Result<Door, forebay::doors::web::BindError> {
    let (ingest, partners, gate) = (parts.ingest.clone(), parts.partners.clone(), parts.gate.clone());
    let (clock, readiness) = (Arc::new(clock.clone()), Arc::new(readiness));
    Door::bind(listen, options, ingest, partners, gate, clock, readiness, &root.join("tls"))
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let value = values.next().unwrap_or_default();
        assert!(values.next().is_none(), "{name} stands twice: {}", self.head);
        value
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn parsed(bytes: &[u8]) -> Answer {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

impl Web {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are, and reads until the server ends the connection.
    async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        timeout(BOUND, stream.read_to_end(&mut answer)).await.expect("an answer and an end").unwrap();
        answer
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        parsed(&self.raw(request.as_bytes()).await)
    }

    async fn get(&self, path: &str, accept: &str) -> Answer {
        self.ask("GET", path, &format!("Accept: {accept}\r\n"), "").await
    }
}

fn is_guarded(answer: &Answer) {
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'; "), "{}", answer.head);
}

#[tokio::test]
async fn a_browser_reads_the_announcement_while_the_gate_is_closed() {
    let web = web(INSIDE).await;
    let answer = web.get("/", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8").await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.starts_with("HTTP/1.1 503 Service Unavailable"), "{}", answer.head);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("retry-after"), "7200");
    is_guarded(&answer);
    for words in [
        "<h1>Service Unavailable</h1>",
        "due to maintenance downtime or capacity problems",
        "<time datetime=\"2026-04-24T22:00:00-05:00\">Friday, April 24, 2026 at 22:00 CDT</time>",
        "You may go on submitting files by FTP.",
        "processing will resume automatically after the maintenance period ends. There is no need to resubmit data.",
    ] {
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
    // Its looks are a file of ours, which the closed gate does not hold back.
    assert!(answer.header("content-security-policy").contains("style-src 'self'"));
    let style = answer.body.split("href=\"").find(|rest| rest.contains(".css")).unwrap().split('"').next().unwrap();
    let style = web.get(style, "text/css").await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));
    assert!(style.header("cache-control").contains("immutable"), "{}", style.head);
}

#[tokio::test]
async fn programs_get_the_announcement_as_they_speak() {
    let web = web(INSIDE).await;
    let json = web.get("/api/v1/patients", "application/json").await;
    assert_eq!((json.status, json.header("content-type")), (503, "application/problem+json"));
    let problem = json.json();
    assert_eq!((&problem["title"], &problem["status"]), (&"Service Unavailable".into(), &503.into()));
    assert_eq!(problem["until"], "2026-04-24T22:00:00-05:00");

    let envelope = "<soap:Envelope/>";
    let newer = web.ask("POST", "/soap", "Content-Type: application/soap+xml; charset=utf-8\r\n", envelope).await;
    assert_eq!((newer.status, newer.header("content-type")), (503, "application/soap+xml; charset=utf-8"));
    assert!(newer.body.contains("<env:Value>env:Receiver</env:Value>"), "{}", newer.body);

    let older = web.ask("POST", "/soap", "Content-Type: text/xml\r\nSOAPAction: \"urn:submit\"\r\n", envelope).await;
    assert_eq!((older.status, older.header("content-type")), (503, "text/xml; charset=utf-8"));
    assert!(older.body.contains("<faultcode>soap:Server</faultcode>"), "{}", older.body);

    let text = web.get("/", "*/*").await;
    assert_eq!((text.status, text.header("content-type")), (503, "text/plain; charset=utf-8"));
    assert!(text.body.contains("Friday, April 24, 2026 at 22:00 CDT"), "{}", text.body);

    for answer in [json, newer, older, text] {
        assert_eq!(answer.header("retry-after"), "7200");
        is_guarded(&answer);
    }
}

#[tokio::test]
async fn every_method_and_path_is_unavailable_while_the_gate_is_closed() {
    let web = web(INSIDE).await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        for path in ["/", "/a/b?c=d", "/v1/files", "/../etc/passwd", "/%00", "http://localhost/healthy"] {
            assert_eq!(web.ask(method, path, "", "").await.status, 503, "{method} {path}");
        }
    }
    assert_eq!(web.ask("OPTIONS", "*", "", "").await.status, 503);
    let old = parsed(&web.raw(b"GET / HTTP/1.0\r\n\r\n").await);
    assert_eq!(old.status, 503);
}

#[tokio::test]
async fn retry_after_follows_the_clock_and_the_face_opens_at_the_end() {
    let web = web(INSIDE).await;
    assert_eq!(web.get("/", "*/*").await.header("retry-after"), "7200");
    web.clock.advance(Duration::from_millis(7_199_500));
    assert_eq!(web.get("/", "*/*").await.header("retry-after"), "1");
    web.clock.advance(Duration::from_millis(500));
    let open = web.get("/", "*/*").await;
    assert_eq!((open.status, open.header("retry-after")), (200, ""));
    web.clock.jump_to(instant(INSIDE));
    assert_eq!(web.get("/", "*/*").await.status, 503, "nothing of the open face is kept");
}

#[tokio::test]
async fn an_operator_s_closure_without_end_is_told_without_the_operator_s_words() {
    let web = web(BEFORE).await;
    web.gate.close(vec![], None, "the database is on fire".into(), None, "ops".into()).unwrap();
    for accept in ["text/html", "application/json", "text/plain", "application/soap+xml"] {
        let answer = web.get("/", accept).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "900"), "{accept}");
        assert!(!answer.body.contains("on fire") && !answer.body.contains("ops"), "{}", answer.body);
    }
}

#[tokio::test]
async fn while_the_gate_is_open_there_is_a_status_page_and_the_next_window() {
    let web = web(BEFORE).await;
    let page = web.get("/", "text/html").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    is_guarded(&page);
    assert!(page.body.contains("The gate is open.") && page.body.contains("ImmTrac2 servers"), "{}", page.body);
    assert!(page.body.contains("Friday, April 24, 2026 at 19:00 CDT"));

    let json = web.get("/", "application/json").await.json();
    assert_eq!((&json["gate"], &json["service"]), (&"open".into(), &"Forebay".into()));
    assert_eq!(json["next_window"]["end"], "2026-04-24T22:00:00-05:00");

    assert_eq!(web.get("/elsewhere", "*/*").await.status, 404);
    assert_eq!(web.get("/elsewhere", "application/json").await.json()["status"], 404);
    let refused = web.ask("POST", "/", "", "x").await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET,HEAD"));

    web.clock.jump_to(instant("2026-04-26T00:00:00Z"));
    assert!(web.get("/", "text/plain").await.body.contains("No maintenance is planned."));
}

#[tokio::test]
async fn a_window_of_one_route_leaves_the_web_open() {
    let schedule = SCHEDULE.to_owned() + "routes = [\"immunizations\"]\n";
    let web = web_with(INSIDE, &schedule, Options::default(), Vec::new).await;
    let page = web.get("/", "text/plain").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Processing of some of them is paused"), "{}", page.body);
    assert!(!page.body.contains("immunizations"), "{}", page.body);
}

#[tokio::test]
async fn hostile_words_of_a_window_stay_words() {
    let words = r#"</p></faultstring><script>alert('1')</script> ]]> \u202e & \" \\"#;
    let schedule = SCHEDULE.replace("ImmTrac2 servers", words).replace("System maintenance", words);
    let (start, end) = (schedule.find("\"The server").unwrap(), schedule.find("later.\"").unwrap() + 7);
    let schedule = format!("{}\"{words}\\nSet-Cookie: a=b\"{}", &schedule[..start], &schedule[end..]);
    for at in [INSIDE, BEFORE] {
        let web = web_with(at, &schedule, Options::default(), Vec::new).await;
        for accept in ["text/html", "application/json", "text/plain", "application/soap+xml"] {
            let answer = web.get("/", accept).await;
            assert!(answer.body.contains("alert("), "the words are told: {}", answer.body);
            let kind = answer.header("content-type").to_owned();
            assert!(!answer.head.to_ascii_lowercase().contains("set-cookie"), "{}", answer.head);
            if kind.contains("json") {
                assert!(answer.json().is_object());
            } else if !kind.starts_with("text/plain") {
                assert!(!answer.body.contains("<script") && !answer.body.contains("</p></fault"), "{}", answer.body);
                assert!(!answer.body.contains("]]>"), "{}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn health_answers_whatever_the_gate_says() {
    for at in [INSIDE, BEFORE] {
        let web = web(at).await;
        let alive = web.get("/healthz", "*/*").await;
        assert_eq!((alive.status, alive.body.as_str()), (200, "alive\n"), "{at}");
        let ready = web.get("/readyz", "*/*").await;
        assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"), "{at}");
        is_guarded(&ready);
        assert_eq!(web.ask("HEAD", "/healthz", "", "").await.status, 200);
        assert_eq!(web.ask("POST", "/healthz", "", "").await.status, 405);
    }
}

#[tokio::test]
async fn readiness_tells_every_reason() {
    let faults = || vec!["the journal is poisoned".to_owned(), "the disk is\nshort".to_owned()];
    let web = web_with(INSIDE, SCHEDULE, Options::default(), faults).await;
    let text = web.get("/readyz", "*/*").await;
    assert_eq!((text.status, text.header("retry-after")), (503, ""));
    assert_eq!(text.body, "not ready\n- the journal is poisoned\n- the disk is short\n");
    let json = web.get("/readyz", "application/json").await.json();
    assert_eq!((&json["ready"], &json["reasons"][0]), (&false.into(), &"the journal is poisoned".into()));
    assert_eq!(web.get("/healthz", "*/*").await.status, 200, "alive all the same");
}

#[tokio::test]
async fn head_gets_the_head_alone() {
    for at in [INSIDE, BEFORE] {
        let web = web(at).await;
        let whole = web.get("/", "text/plain").await;
        let head = web.ask("HEAD", "/", "Accept: text/plain\r\n", "").await;
        assert_eq!((head.status, head.body.as_str()), (whole.status, ""));
        assert_eq!(head.header("content-length"), whole.body.len().to_string());
        assert_eq!(head.header("retry-after"), whole.header("retry-after"));
    }
}

#[tokio::test]
async fn who_sends_a_body_sees_the_answer_and_may_go_on() {
    let web = web(INSIDE).await;
    let mut stream = web.connect().await;
    let body = vec![b'x'; 3 << 20];
    for _ in 0..2 {
        let head = format!("POST /in HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        timeout(BOUND, stream.write_all(&body)).await.unwrap().unwrap();
        let answer = one(&mut stream).await;
        assert_eq!((answer.status, answer.header("connection")), (503, ""));
    }
}

/// Reads one answer with a length from a connection that stays.
async fn one(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = timeout(BOUND, stream.read(&mut some)).await.expect("an answer").unwrap();
        assert!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower.split_once("content-length: ").map_or("0", |(_, rest)| rest.lines().next().unwrap());
            if body.len() >= length.parse::<usize>().unwrap() {
                return parsed(&bytes);
            }
        }
    }
}

#[tokio::test]
async fn a_body_beyond_the_bound_ends_the_connection_with_an_answer() {
    let options = Options { max_body_bytes: 1024, ..Options::default() };
    let web = web_with(INSIDE, SCHEDULE, options, Vec::new).await;
    let told = parsed(&web.raw(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n").await);
    assert_eq!((told.status, told.header("connection")), (503, "close"));
    let mut chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    chunked.extend_from_slice(format!("500\r\n{}\r\n", "x".repeat(0x500)).as_bytes());
    let told = parsed(&web.raw(&chunked).await);
    assert_eq!((told.status, told.header("connection")), (503, "close"));
    let waits =
        parsed(&web.raw(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n").await);
    assert_eq!(waits.status, 503, "it is told before it sends");
}

#[tokio::test]
async fn a_body_that_stands_still_gets_its_answer() {
    let options = Options { body_timeout: Duration::from_millis(200), ..Options::default() };
    let web = web_with(INSIDE, SCHEDULE, options, Vec::new).await;
    let told = parsed(&web.raw(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsome").await);
    assert_eq!((told.status, told.header("connection")), (503, "close"));
}

#[tokio::test]
async fn slow_and_oversized_heads_are_dropped() {
    let options = Options { head_timeout: Duration::from_millis(300), ..Options::default() };
    let web = web_with(INSIDE, SCHEDULE, options, Vec::new).await;
    for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        // Reads until the end of the connection, within the bound.
        let answer = web.raw(begun.as_bytes()).await;
        assert!(!answer.starts_with(b"HTTP/1.1 503"), "{begun:?}");
    }
    // Drop by drop: each comes in time, the head does not.
    let mut stream = web.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        while writer.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = drip => {}
        ended = timeout(BOUND, reader.read_to_end(&mut rest)) => { let _ = ended.expect("it is dropped"); }
    }
    // Idle after an answer.
    let mut stream = web.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(one(&mut stream).await.status, 503);
    assert_eq!(timeout(BOUND, stream.read(&mut [0; 16])).await.expect("it is ended").unwrap(), 0);

    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(60_000));
    let mut stream = web.connect().await;
    let _ = stream.write_all(huge.as_bytes()).await;
    let mut told = Vec::new();
    let _ = timeout(BOUND, stream.read_to_end(&mut told)).await.expect("it is ended");
    assert!(!told.starts_with(b"HTTP/1.1 503"));
    assert_eq!(web.get("/healthz", "*/*").await.status, 200);
}

#[tokio::test]
async fn more_connections_than_allowed_are_told_to_come_back() {
    let limits = partners::Limits { max_connections: 2, ..Plan::default().limits };
    let web = web_within(BEFORE, SCHEDULE, Options::default(), Vec::new, limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = web.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(one(&mut stream).await.status, 200);
        held.push(stream);
    }
    let mut third = web.connect().await;
    let refused = one(&mut third).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"));
    assert_eq!(refused.body, "too many connections\n");
    drop(held);
    timeout(BOUND, async { while web.try_healthz().await != Some(200) {} }).await.expect("a place is free again");
}

impl Web {
    /// None: the connection was ended before an answer.
    async fn try_healthz(&self) -> Option<u16> {
        let mut stream = self.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut told = Vec::new();
        stream.read_to_end(&mut told).await.ok()?;
        (!told.is_empty()).then(|| parsed(&told).status)
    }
}

#[tokio::test]
async fn nonsense_is_refused_and_harms_no_one() {
    let web = web(INSIDE).await;
    let nonsense: [&[u8]; 6] = [
        b"\r\n\r\n\r\n",
        b"HELLO\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for bytes in nonsense {
        let mut stream = web.connect().await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut told = Vec::new();
        let _ = timeout(BOUND, stream.read_to_end(&mut told)).await.expect("it is ended");
    }
    assert_eq!(web.get("/healthz", "*/*").await.status, 200);
}

/// RFC 9112, 2.2 and 3.2: what others may read otherwise is refused, and the connection ends.
#[tokio::test]
async fn a_request_without_host_or_with_bare_line_feeds_is_bad() {
    for at in [INSIDE, BEFORE] {
        let web = web(at).await;
        for bad in [
            "GET /healthz HTTP/1.1\r\n\r\n",
            "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /healthz HTTP/1.1\nHost: x\r\n\r\n",
            "GET /healthz HTTP/1.1\r\nHost: x\n\r\n",
            "GET /healthz HTTP/1.1\r\nHost: x\n\n",
            "GET /healthz HTTP/1.1\r\nHost: x\r\nX: y\n z\r\n\r\n",
            "\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let told = parsed(&web.raw(bad.as_bytes()).await);
            assert_eq!(told.status, 400, "{bad:?}: {}", told.head);
        }
        // HTTP/1.0 has no Host, and a body has whatever line ends it has. Behind it the next head is looked at too.
        assert_eq!(parsed(&web.raw(b"GET /healthz HTTP/1.0\r\n\r\n").await).status, 200);
        let body = "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na\nb";
        let twice = format!("{body}GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let told = String::from_utf8(web.raw(twice.as_bytes()).await).unwrap();
        assert_eq!(told.matches("HTTP/1.1 200").count(), 2, "{told}");
        let smuggled = format!("{body}GET /healthz HTTP/1.1\nHost: x\r\n\r\n");
        let told = String::from_utf8(web.raw(smuggled.as_bytes()).await).unwrap();
        assert_eq!((told.matches("HTTP/1.1 200").count(), told.matches("HTTP/1.1 400").count()), (1, 1), "{told}");
    }
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_frees_the_address() {
    let web = web(BEFORE).await;
    let mut idle = web.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(one(&mut idle).await.status, 200);
    web.stop.send_replace(true);
    timeout(BOUND, web.running).await.expect("it ends").unwrap();
    assert_eq!(timeout(BOUND, idle.read(&mut [0; 16])).await.expect("it is ended").unwrap_or(0), 0);
    assert!(TcpStream::connect(web.address).await.is_err());
}

#[tokio::test]
async fn a_taken_address_is_told() {
    let web = web(BEFORE).await;
    let taken = bound(web.address, Options::default(), &web.parts, &web.clock, Vec::new, web.root.path());
    assert_eq!(taken.unwrap_err().to_string(), format!("cannot listen on {} for web", web.address));
}

/// Whatever the web's places are, health has its own.
#[tokio::test]
async fn health_alone_has_places_of_its_own() {
    let limits = partners::Limits { max_connections: 1, ..Plan::default().limits };
    let web = web_within(INSIDE, SCHEDULE, Options::default(), Vec::new, limits).await;
    let _held = web.connect().await;
    let (partners, any) = (&web.parts.partners, "127.0.0.1:0".parse().unwrap());
    let door = HealthDoor::bind(any, partners, Arc::new(Vec::new)).unwrap();
    let mut health = Web { address: door.local_addr(), ..web };
    health.running = tokio::spawn(door.run(health.stop.subscribe()));
    assert_eq!(health.get("/readyz", "*/*").await.status, 200);
    assert_eq!(health.get("/", "*/*").await.status, 404, "and tells nothing else");
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = health.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(one(&mut stream).await.status, 200);
        held.push(stream);
    }
    assert_eq!(one(&mut health.connect().await).await.status, 503, "one address has so many");
}

#[tokio::test]
async fn the_calendar_is_told_whatever_the_gate_says_and_when_a_schedule_was_refused() {
    let web = web(INSIDE).await;
    let feed = web.get("/maintenance.ics", "*/*").await;
    assert_eq!((feed.status, feed.header("content-type")), (200, "text/calendar; charset=utf-8"));
    assert_eq!(web.get("/calendar.ics", "*/*").await.body, feed.body, "the same bytes");
    assert!(!feed.body.contains("REFUSED"), "{}", feed.body);
    std::fs::write(web.root.path().join("maintenance.toml"), "[[window]]\nstart = 7").unwrap();
    assert!(web.gate.reload().is_err());
    let told = web.get("/maintenance.ics", "*/*").await.body;
    let unfolded = told.replace("\r\n ", "");
    assert!(
        unfolded.contains("X-WR-CALDESC:The schedule was changed\\, and what it says since 2026-04-25 01:00"),
        "{told}"
    );
    assert!(unfolded.contains("X-FOREBAY-SCHEDULE-REFUSED:20260425T010000Z"), "{told}");
    assert!(unfolded.contains("DTSTART:20260425T000000Z"), "the last good one is in force: {told}");
}

#[tokio::test]
async fn another_host_than_ours_is_refused() {
    let options: Options = toml::from_str("hosts = [\"files.example.org\"]").unwrap();
    for at in [INSIDE, BEFORE] {
        let web = web_with(at, SCHEDULE, options.clone(), Vec::new).await;
        for (host, is_ours) in [
            ("files.example.org:8080", true),
            ("127.0.0.1", true),
            ("[::1]:1", true),
            ("evil.example", false),
            ("files.example.org.evil.example", false),
        ] {
            for path in ["/", "/healthz", "/v1/files"] {
                let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                let told = parsed(&web.raw(request.as_bytes()).await).status;
                assert_eq!(told == 421, !is_ours, "{host} {path}: {told}");
            }
        }
    }
}

/// RFC 9112, 6.1 and 6.3: a request that could be read in two ways is refused, and nothing behind it is read.
#[tokio::test]
async fn nothing_is_smuggled_behind_a_body() {
    let web = web(BEFORE).await;
    let hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Transfer-Encoding: chunked\r\ncontent-length: 0",
        "Content-Length: 4\r\nTransfer-Encoding: identity",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Content-Length: +4",
        "Content-Length: 0x4",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Content-Length: 4\r\n Transfer-Encoding: chunked",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n0\r\n\r\n{hidden}");
        let told = String::from_utf8(web.raw(request.as_bytes()).await).unwrap();
        assert!(told.starts_with("HTTP/1.1 400"), "{framing}: {told}");
        assert_eq!(told.matches("HTTP/1.1").count(), 1, "{framing}: {told}");
    }
    // In chunks the end is the parser's: nothing is read behind it.
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}");
    let told = String::from_utf8(web.raw(request.as_bytes()).await).unwrap();
    assert_eq!(told.matches("HTTP/1.1").count(), 1, "{told}");
}

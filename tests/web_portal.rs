//! Partners with a browser, and those who would use it against them: request by request, as a browser writes them. What a real
//! browser shows and does is tried beside this.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where something is missing, and reads the machine's clock"
)]

mod harness;

use std::{io::Write, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use forebay::{clock::SetClock, doors::web::Options, gate, partners};
use forebay_queue::State;
use harness::{
    Door, House, PARTNER, PASSWORD, Plan,
    http::{Answer, connected, raw, read_to_end, request},
};

const HTML: &str = "Accept: text/html\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
/// What a name may be made of to break out of a page, a link, a header or a script.
const HOSTILE: &str = "{{7*7}}<script>alert(1)<script>\"'&%2e{%raw%}.hl7";

fn house_with(plan: Plan) -> House {
    House::new(Plan { web: Some(plan.web.unwrap_or_default()), receipts: true, outbox: true, ..plan })
}

fn house() -> House {
    house_with(Plan::default())
}

/// A browser: it keeps its cookie.
struct Browser<'a> {
    house: &'a House,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn new(house: &'a House) -> Self {
        Self { house, cookie: String::new() }
    }

    fn signed_in(house: &'a House) -> Self {
        let mut browser = Self::new(house);
        let told = browser.sign_in(PARTNER, PASSWORD);
        assert_eq!((told.status, told.header("location")), (303, "/"), "{told:?}");
        browser
    }

    fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        let body = format!("name={name}&password={}", password.replace(' ', "+"));
        self.ask("POST", "/sign-in", FORM, body.as_bytes())
    }

    fn headers(&self, more: &str) -> String {
        format!("{HTML}Cookie: other=1; {}\r\n{more}", self.cookie)
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let bytes = request(method, path, &self.headers(headers), body);
        let told = Answer::parsed(&raw(self.house.web.unwrap(), &bytes));
        if !told.header("set-cookie").is_empty() {
            self.cookie = told.header("set-cookie").split(';').next().unwrap().to_owned();
        }
        told
    }

    fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    /// Sends a file as the form does.
    fn send(&mut self, name: &str, content: &str) -> Answer {
        let name = name.replace('"', "%22");
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n--x--\r\n"
        );
        self.ask("POST", "/upload", "Content-Type: multipart/form-data; boundary=x\r\n", body.as_bytes())
    }

    fn is_in(&mut self) -> bool {
        let page = self.get("/");
        assert_eq!(page.status, 200, "{page:?}");
        text(&page).contains("Signed in as")
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

fn no_cookie(answer: &Answer) {
    assert_eq!(answer.header("set-cookie"), "", "{answer:?}");
}

#[test]
fn a_partner_signs_in_sends_a_file_and_reads_what_became_of_it() {
    let house = house();
    std::fs::create_dir_all(house.outbox()).unwrap();
    std::fs::write(house.outbox().join("report.txt"), "for you").unwrap();
    house.enter(Door::Sftp).put("by-sftp.hl7", b"some").unwrap();
    let mut browser = Browser::new(&house);
    let page = browser.get("/");
    assert_eq!(page.status, 200);
    assert!(text(&page).contains("<form class=\"sign-in\" method=\"post\" action=\"/sign-in\">"), "{page:?}");
    browser.sign_in(PARTNER, PASSWORD);
    let page = text(&browser.get("/"));
    assert!(page.contains("Signed in as <strong>Clinic</strong>") && page.contains("by-sftp.hl7"), "{page}");
    let told = browser.send("a.hl7", "MSH|one");
    assert_eq!(told.status, 303, "{told:?}");
    let entry = house.entries().into_iter().find(|entry| entry.name == "a.hl7").unwrap();
    assert_eq!((house.bytes(&entry), entry.door.as_str()), (b"MSH|one".to_vec(), "web"));
    assert_eq!(told.header("location"), format!("/files/{}?kept", entry.id));
    let page = text(&browser.get(told.header("location")));
    for word in ["Kept.", "no need to send it again", &entry.id.to_string(), &entry.sha256.to_string(), "ready"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    assert!(!text(&browser.get(&format!("/files/{}", entry.id))).contains("Kept."));
    let receipt = browser.get(&format!("/files/{}/receipt.json", entry.id));
    assert_eq!((receipt.json()["name"].as_str(), receipt.header("content-disposition")), (Some("a.hl7"), "attachment"));
    let page = text(&browser.get("/out/"));
    assert!(page.contains("href=\"/out/report.txt\"") && page.contains("Show receipts too"), "{page}");
    assert_eq!(text(&browser.get("/out/?receipts")).matches(".receipt.json\"").count(), 2);
    let file = browser.get("/out/report.txt");
    assert_eq!((file.body.as_slice(), file.header("content-disposition")), (&b"for you"[..], "attachment"));
    let out = browser.ask("POST", "/sign-out", "", b"");
    assert_eq!((out.status, out.header("location")), (303, "/"));
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
    assert!(!browser.is_in());
}

#[test]
fn a_script_sends_raw_bytes_under_a_key_and_has_json() {
    let house = house();
    let browser = Browser::signed_in(&house);
    let send = |key: &str, content: &[u8]| {
        let headers =
            format!("Accept: application/json\r\nIdempotency-Key: {key}\r\nContent-Type: application/octet-stream\r\n");
        // Of a browser's two Accept lines the script's is the only one.
        let head = browser.headers(&headers).replace(HTML, "");
        let bytes = request("POST", "/upload?name=a%20b.hl7", &head, content);
        Answer::parsed(&raw(browser.house.web.unwrap(), &bytes))
    };
    let (first, again) = (send("k1", b"some"), send("k1", b"some"));
    assert_eq!((first.status, first.body.as_slice()), (201, again.body.as_slice()), "{first:?} {again:?}");
    assert_eq!(first.header("location"), format!("/files/{}", first.json()["id"].as_str().unwrap()));
    send("k1", b"other").assert_problem(422, Some("Idempotency-Key"));
    assert_eq!(house.states("a b.hl7"), [State::Ready]);
}

#[test]
fn who_has_not_signed_in_sees_and_sends_nothing() {
    let house = house();
    house.enter(Door::Ftp).put("secret.hl7", b"some").unwrap();
    let id = house.entries()[0].id;
    let mut stranger = Browser::new(&house);
    for cookie in ["", "session=", "session=abc", "session=../../x", "session=\"\"", "session=a; session=b"] {
        stranger.cookie = cookie.to_owned();
        for (method, path) in [
            ("GET", "/".to_owned()),
            ("GET", format!("/files/{id}")),
            ("GET", format!("/files/{id}/receipt.json")),
            ("GET", "/out/".to_owned()),
            ("GET", "/out/NOTICE.txt".to_owned()),
            ("POST", "/upload".to_owned()),
        ] {
            let told = stranger.ask(method, &path, "", b"");
            assert_eq!(told.status, if path == "/" { 200 } else { 403 }, "{method} {path} {told:?}");
            assert!(!text(&told).contains("secret"), "{path}");
            assert_eq!(told.header("www-authenticate"), "", "no browser asks by itself");
        }
    }
    stranger.cookie.clear();
    let told = stranger.send("a", "b");
    assert!(told.status == 403 && text(&told).contains("<h1>Not kept</h1>"), "{told:?}");
    house.wait_alone();
    assert_eq!(house.entries().len(), 1);
}

#[test]
fn another_partner_s_files_are_not_there() {
    let house = house();
    house.partners.add(&"Other".parse().unwrap(), PASSWORD, "").unwrap();
    house.enter(Door::Ftp).put("mine.hl7", b"some").unwrap();
    let id = house.entries()[0].id;
    let mut other = Browser::new(&house);
    assert_eq!(other.sign_in("other", PASSWORD).status, 303);
    assert!(!text(&other.get("/")).contains("mine.hl7"));
    for path in
        [format!("/files/{id}"), format!("/files/{id}/receipt.json"), format!("/out/mine.hl7.{id}.receipt.json")]
    {
        let told = other.get(&path);
        assert!(told.status == 404 && !text(&told).contains("mine"), "{path} {told:?}");
    }
}

#[test]
fn what_another_site_sends_is_refused_with_every_cookie() {
    let house = house();
    let mut browser = Browser::signed_in(&house);
    let form = "Content-Type: multipart/form-data; boundary=x\r\n";
    let body = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nevil\r\n--x--\r\n";
    let basic = "Authorization: Basic Q2xpbmljOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==\r\n";
    for from in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:1\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://localhost\r\n",
    ] {
        for (path, headers) in [
            ("/upload", form),
            ("/sign-out", FORM),
            ("/sign-in", FORM),
            ("/v1/files?name=a", basic),
            ("/v1/files", form),
        ] {
            let told = browser.ask("POST", path, &format!("{from}{headers}"), body);
            told.assert_problem(403, None);
            no_cookie(&told);
        }
    }
    assert_eq!(house.entries(), []);
    assert!(browser.is_in(), "and nobody was signed out");
    for own in ["Sec-Fetch-Site: same-origin\r\n", "Origin: http://localhost\r\n"] {
        let told = browser.ask("POST", "/upload", &format!("{own}{form}"), body);
        assert_eq!(told.status, 303, "{own} {told:?}");
    }
}

#[test]
fn the_public_address_is_ours_though_a_proxy_changes_the_host() {
    let options = Options { url: Some("https://files.example.org".to_owned()), ..Options::default() };
    let house = house_with(Plan { web: Some(options), ..Plan::default() });
    let mut browser = Browser::new(&house);
    let body = format!("name={PARTNER}&password={}", PASSWORD.replace(' ', "+"));
    let told =
        browser.ask("POST", "/sign-in", &format!("{FORM}Origin: https://files.example.org\r\n"), body.as_bytes());
    assert_eq!(told.status, 303, "{told:?}");
    let cookie = told.header("set-cookie");
    for word in ["__Host-session=", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let told = browser.ask("POST", "/sign-in", &format!("{FORM}Origin: http://files.example.org\r\n"), body.as_bytes());
    assert_eq!(told.status, 403);
}

#[test]
fn passwords_and_cookies_in_the_clear_are_taken_from_this_machine_alone() {
    let options = toml::from_str("proxy_protocol_from = [\"127.0.0.0/8\"]").unwrap();
    let house = house_with(Plan { web: Some(options), ..Plan::default() });
    let ask = |from: &str, method: &str, path: &str, headers: &str, body: &str| {
        let proxy = format!("PROXY TCP4 {from} 127.0.0.1 5000 80\r\n");
        let request = request(method, path, &format!("{HTML}{headers}"), body.as_bytes());
        Answer::parsed(&raw(house.web.unwrap(), &[proxy.as_bytes(), &request].concat()))
    };
    let (far, near) = ("192.0.2.7", "127.0.0.1");
    let form = format!("name={PARTNER}&password={}", PASSWORD.replace(' ', "+"));
    let page = text(&ask(far, "GET", "/", "", ""));
    assert!(page.contains("over TLS only") && !page.contains("<form"), "{page}");
    let told = ask(far, "POST", "/sign-in", FORM, &form);
    assert!(told.status == 403 && text(&told).contains("TLS"), "{told:?}");
    no_cookie(&told);
    let told = ask(near, "POST", "/sign-in", FORM, &form);
    let cookie = format!("Cookie: {}\r\n", told.header("set-cookie").split(';').next().unwrap());
    assert!(text(&ask(near, "GET", "/", &cookie, "")).contains("Signed in as"));
    assert!(!text(&ask(far, "GET", "/", &cookie, "")).contains("Signed in as"));
    assert_eq!(ask(far, "GET", "/out/", &cookie, "").status, 403);
}

#[test]
fn under_another_name_than_its_own_the_server_shows_nothing() {
    let options = Options { hosts: vec!["files.example.org".parse().unwrap()], ..Options::default() };
    let house = house_with(Plan { web: Some(options), ..Plan::default() });
    let with = |host: &str| {
        let get = request("GET", "/", HTML, b"");
        let get = String::from_utf8(get).unwrap().replace("Host: localhost", &format!("Host: {host}"));
        Answer::parsed(&raw(house.web.unwrap(), get.as_bytes())).status
    };
    assert_eq!(["files.example.org", "127.0.0.1", "evil.example", "localhost"].map(with), [200, 200, 421, 421]);
}

#[test]
fn a_session_is_begun_anew_at_each_sign_in_and_ends_with_the_old_one() {
    let house = house();
    let mut browser = Browser::new(&house);
    browser.cookie = "session=chosen-by-somebody-else".to_owned();
    browser.sign_in(PARTNER, PASSWORD);
    let first = browser.cookie.clone();
    assert!(first.len() > 40 && !first.contains("chosen"), "{first}");
    browser.sign_in(PARTNER, PASSWORD);
    assert_ne!(browser.cookie, first);
    assert!(browser.is_in());
    let mut old = Browser::new(&house);
    old.cookie = first;
    assert!(!old.is_in(), "nobody goes on in a session that was left");
    let failed = browser.sign_in(PARTNER, "wrong");
    assert_eq!(failed.status, 403);
    no_cookie(&failed);
    assert!(text(&failed).contains("Name or password is wrong."), "{failed:?}");
    // Not over TLS, and from this machine: the cookie has no other name that promises more.
    assert!(browser.cookie.starts_with("session="));
}

#[test]
fn a_session_ends_when_it_is_idle_old_or_without_its_password_and_not_under_an_upload() {
    let clock = SetClock::new("2026-04-24T12:00:00Z".parse().unwrap());
    let house = house_with(Plan { clock: Arc::new(clock.clone()), ..Plan::default() });
    let idle = Options::default().session_idle;
    let mut browser = Browser::signed_in(&house);
    clock.advance(idle - Duration::from_secs(1));
    assert!(browser.is_in());
    clock.advance(idle + Duration::from_secs(1));
    assert!(!browser.is_in());
    browser.sign_in(PARTNER, PASSWORD);
    let mut upload = connected(house.web.unwrap());
    let head = browser.headers("Connection: close\r\nContent-Type: application/octet-stream\r\nContent-Length: 4\r\n");
    upload.write_all(format!("POST /upload?name=slow HTTP/1.1\r\nHost: x\r\n{head}\r\nso").as_bytes()).unwrap();
    house.wait_until("it has begun", || house.partners.sessions().iter().any(|session| session.bytes > 0));
    clock.advance(idle * 3);
    assert!(browser.is_in(), "an upload is a use of the session");
    upload.write_all(b"me").unwrap();
    assert_eq!(Answer::parsed(&read_to_end(&mut upload)).status, 303);
    house.wait_alone();
    clock.advance(idle - Duration::from_secs(1));
    assert!(browser.is_in(), "it was used until then");
    clock.advance(Duration::from_secs(13 * 3600));
    assert!(!browser.is_in());
    browser.sign_in(PARTNER, PASSWORD);
    house.partners.passwd(&PARTNER.parse().unwrap(), "another battery horse").unwrap();
    assert!(!browser.is_in(), "what it came in by is no password any more");
    browser.sign_in(PARTNER, "another battery horse");
    assert!(browser.is_in());
}

#[test]
fn guesses_count_with_those_at_every_other_door() {
    let limits = partners::Limits { free_failures: 3, max_failed_logins: 2, ..Plan::default().limits };
    let house = house_with(Plan { limits, ..Plan::default() });
    let mut browser = Browser::new(&house);
    for _ in 0..4 {
        assert!(matches!(browser.sign_in(PARTNER, "wrong").status, 403 | 429));
    }
    let told = browser.sign_in(PARTNER, PASSWORD);
    assert_eq!(told.status, 429, "also the right one: {told:?}");
    assert!(told.header("retry-after").parse::<u64>().unwrap() >= 1);
    no_cookie(&told);
    let basic = "Authorization: Basic Q2xpbmljOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==\r\n";
    let services = Answer::parsed(&raw(house.web.unwrap(), &request("GET", "/v1/files", basic, b"")));
    assert_eq!(services.status, 429, "{services:?}");
    // On one connection it is over after some.
    let mut stream = connected(house.web.unwrap());
    let guess = "name=nobody&password=wrong";
    let one = format!("POST /sign-in HTTP/1.1\r\nHost: x\r\n{FORM}Content-Length: {}\r\n\r\n{guess}", guess.len());
    let _ = stream.write_all(one.repeat(6).as_bytes());
    let told = String::from_utf8(read_to_end(&mut stream)).unwrap();
    assert_eq!(told.matches("HTTP/1.1 ").count(), 2, "{told}");
}

#[test]
fn forms_that_are_none_are_refused() {
    let house = house();
    let mut browser = Browser::new(&house);
    for (headers, body, status) in [
        ("Content-Type: text/plain\r\n", "name=Clinic&password=x".to_owned(), 415),
        ("", "name=Clinic".to_owned(), 415),
        (FORM, "x".repeat(20 << 10), 413),
        (FORM, String::new(), 403),
        (FORM, "name=Clinic&name=Clinic&password=correct+horse+battery".to_owned(), 403),
        (FORM, "name=%ff%00&password=%ff".to_owned(), 403),
    ] {
        let told = browser.ask("POST", "/sign-in", headers, body.as_bytes());
        assert_eq!(told.status, status, "{headers} {told:?}");
        no_cookie(&told);
    }
    // Where a browser stands after a refusal it is led back from.
    for path in ["/sign-in", "/upload"] {
        let told = browser.get(path);
        assert_eq!((told.status, told.header("location")), (303, "/"), "{path}");
    }
    for (method, path) in [("PUT", "/sign-in"), ("GET", "/sign-out"), ("DELETE", "/"), ("QUERY", "/out/")] {
        assert_eq!(browser.ask(method, path, "", b"").status, 405, "{method} {path}");
    }
    assert_eq!(browser.get("/nothing").status, 404);
}

#[test]
fn names_stay_names_on_every_page() {
    let house = house();
    std::fs::create_dir_all(house.outbox()).unwrap();
    std::fs::write(house.outbox().join("<img src=x onerror=alert(1)>.txt"), "x").unwrap();
    let mut browser = Browser::signed_in(&house);
    let told = browser.send(HOSTILE, "some");
    assert_eq!(told.status, 303, "{told:?}");
    let entry = house.entries().remove(0);
    assert_eq!(entry.name, HOSTILE);
    let refused = browser.send("..", HOSTILE);
    assert_eq!(refused.status, 400);
    let wrong = Browser::new(&house).sign_in("%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E", "x");
    for page in [
        browser.get("/"),
        browser.get(&format!("/files/{}", entry.id)),
        browser.get("/out/?receipts"),
        browser.get("/?after=%3Cscript%3E"),
        browser.get("/files/%3Cscript%3E"),
        browser.get("/out/%3Cscript%3E"),
        browser.get("/%3Cscript%3E"),
        refused,
        wrong,
    ] {
        let shown = text(&page);
        assert!(!shown.contains("<script>") && !shown.contains("<img src=x") && !shown.contains("49<"), "{shown}");
        assert!(shown.matches("<script").count() <= 2, "only the page's own: {shown}");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        for word in ["style=", "onclick", "onerror=\"", "javascript:"] {
            assert!(!shown.contains(word), "{word}: {shown}");
        }
    }
    let page = text(&browser.get("/"));
    assert!(page.contains("{{7*7}}&lt;script&gt;alert(1)&lt;script&gt;&quot;&#39;&amp;%2e{%raw%}.hl7"), "{page}");
    // The link of a hostile name leads to it.
    let page = text(&browser.get("/out/"));
    let link = page.split("href=\"").find(|rest| rest.starts_with("/out/%3C")).unwrap().split('"').next().unwrap();
    assert_eq!(browser.get(link).body, b"x");
}

#[test]
fn no_path_leads_out_of_what_lies_for_the_partner() {
    let house = house();
    let mut browser = Browser::signed_in(&house);
    for path in [
        "/out/../forebay.toml",
        "/out/..%2f..%2fetc%2fpasswd",
        "/out/%2e%2e/%2e%2e/etc/passwd",
        "/out//etc/passwd",
        "/out/a%00b",
        "/out/%ff",
        "/files/../out/",
        "/assets/../Cargo.toml",
        "/assets/%2e%2e/page.css",
    ] {
        let told = browser.get(path);
        assert!((400..=404).contains(&told.status), "{path} {told:?}");
    }
    for name in ["../a", "a/../b", "%2e%2e/a", "%00", "/"] {
        let told = browser.ask("POST", &format!("/upload?name={name}"), "Content-Type: x/y\r\n", b"some");
        assert!(told.status == 400 && text(&told).contains("<h1>Not kept</h1>"), "{name} {told:?}");
    }
    house.wait_alone();
    assert_eq!(house.entries(), []);
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn an_upload_begun_before_the_closing_is_told_as_kept_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("maintenance.toml");
    let schedule = "timezone = \"America/Chicago\"\n[[window]]\nname = \"w\"\nstart = \"2026-04-24 19:00\"\nend = \"2026-04-24 22:00\"\n";
    std::fs::write(&file, schedule).unwrap();
    let clock = SetClock::new(at("2026-04-24T23:59:00Z"));
    let gate = gate::Options { file: Some(file), ..gate::Options::default() };
    let house = house_with(Plan { gate, clock: Arc::new(clock.clone()), ..Plan::default() });
    let mut browser = Browser::signed_in(&house);
    assert!(text(&browser.get("/")).contains("maintenance is planned from"), "the notice is on the page");
    let mut upload = connected(house.web.unwrap());
    let head = browser.headers("Connection: close\r\nContent-Type: application/octet-stream\r\nContent-Length: 4\r\n");
    upload.write_all(format!("POST /upload?name=begun HTTP/1.1\r\nHost: x\r\n{head}\r\nso").as_bytes()).unwrap();
    house.wait_until("it has begun", || house.partners.sessions().iter().any(|session| session.bytes > 0));
    clock.jump_to(at("2026-04-25T01:00:00Z"));
    let closed = browser.get("/");
    assert_eq!((closed.status, closed.header("retry-after")), (503, "7200"));
    assert_eq!(browser.sign_in(PARTNER, PASSWORD).status, 503, "before any login");
    let style = text(&closed)
        .split("href=\"")
        .find(|rest| rest.contains("page.css"))
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(browser.get(&style).status, 200, "the page has its looks");
    upload.write_all(b"me").unwrap();
    let told = Answer::parsed(&read_to_end(&mut upload));
    assert_eq!(told.status, 201, "no other page could tell it: {told:?}");
    let page = text(&told);
    assert!(page.contains("Kept.") && page.contains("deferred until"), "{page}");
    clock.jump_to(at("2026-04-25T03:00:00Z"));
    assert_eq!(house.states("begun"), [State::Ready]);
}

#[test]
fn without_the_portal_the_status_is_told_and_nothing_else() {
    let options = Options { portal: false, ..Options::default() };
    let house = house_with(Plan { web: Some(options), ..Plan::default() });
    let mut browser = Browser::new(&house);
    let page = browser.get("/");
    assert!(page.status == 200 && !text(&page).contains("password"), "{page:?}");
    assert_eq!(browser.sign_in(PARTNER, PASSWORD).status, 404);
    let json = request("GET", "/", "Accept: application/json\r\n", b"");
    assert_eq!(Answer::parsed(&raw(house.web.unwrap(), &json)).json()["gate"], "open");
}

#[test]
fn the_list_goes_on_page_by_page() {
    let house = house();
    let mut client = house.enter(Door::Ftp);
    for number in 0..60 {
        client.put(&format!("file-{number:02}.hl7"), b"some").unwrap();
    }
    let mut browser = Browser::signed_in(&house);
    let (mut path, mut names, mut pages) = ("/".to_owned(), Vec::new(), 0);
    loop {
        let page = text(&browser.get(&path));
        let links = page.split("class=\"name\" href=\"/files/").skip(1);
        names.extend(links.map(|rest| rest.split_once('>').unwrap().1.split('<').next().unwrap().to_owned()));
        pages += 1;
        assert!(pages < 10, "{names:?}");
        match page.split("href=\"/?after=").nth(1) {
            Some(rest) => path = format!("/?after={}", rest.split('"').next().unwrap()),
            None => break,
        }
    }
    let expected: Vec<_> = (0..60).rev().map(|number| format!("file-{number:02}.hl7")).collect();
    assert_eq!((names, pages), (expected, 3));
}

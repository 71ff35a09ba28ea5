//! The partners as doors see them.

use std::{net::IpAddr, sync::Arc, time::Duration};

use chrono::DateTime;

use super::{
    ClientCertificate, Credentials, Denied, Limits, Override, Partner, PartnerName, Partners, PartnersError, Policies,
    Policy,
};
use crate::clock::SetClock;

struct Scene {
    root: tempfile::TempDir,
    clock: SetClock,
    partners: Arc<Partners>,
}

fn scene() -> Scene {
    scene_with(Limits::default(), &[])
}

fn scene_with(limits: Limits, overrides: &[Override]) -> Scene {
    let root = tempfile::tempdir().unwrap();
    let clock = SetClock::new(DateTime::UNIX_EPOCH);
    let policies = Policies::new(Policy::default(), overrides);
    let partners = Partners::open(&root.path().join("partners"), limits, policies, Arc::new(clock.clone())).unwrap();
    partners.add(&name("Demo"), "secret", "").unwrap();
    Scene { root, clock, partners }
}

fn name(text: &str) -> PartnerName {
    text.parse().unwrap()
}

fn from(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Scene {
    async fn login(&self, name: &str, password: &str) -> Result<String, Denied> {
        self.partners.verify(name, password, from("192.0.2.1")).await.map(|partner| partner.name.to_string())
    }

    fn runs(&self) -> u64 {
        self.partners.runs()
    }
}

#[tokio::test]
async fn the_right_password_lets_in_under_the_registered_name() {
    let scene = scene();
    assert_eq!(scene.login("Demo", "secret").await.unwrap(), "Demo");
    assert_eq!(scene.login("dEMO", "secret").await.unwrap(), "Demo");
}

#[tokio::test]
async fn every_wrong_login_costs_one_run_and_gets_one_answer() {
    let scene = scene();
    scene.partners.add(&name("off"), "secret", "").unwrap();
    scene.partners.disable(&name("off")).unwrap();
    let long = "x".repeat(1 << 20);
    for (number, (name, password)) in [
        ("demo", "wrong"),
        ("demo", ""),
        ("demo", &long),
        ("unknown", "secret"),
        ("off", "secret"),
        ("off", "wrong"),
        ("", "secret"),
        ("../demo", "secret"),
        ("de\0mo", "secret"),
        (&long, "secret"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = scene.runs();
        let shown: String = name.chars().take(20).collect();
        // From one address they would have to wait soon.
        let login = scene.partners.verify(name, password, from(&format!("192.0.2.{number}"))).await;
        assert_eq!(login.map(drop), Err(Denied::Wrong), "{shown:?}");
        assert_eq!(scene.runs() - before, 1, "{shown:?} costs what a known name costs");
    }
}

#[tokio::test]
async fn an_unknown_name_waits_like_a_known_one() {
    for name in ["demo", "unknown"] {
        let scene = scene();
        for _ in 0..6 {
            assert_eq!(scene.login(name, "wrong").await, Err(Denied::Wrong));
        }
        let before = scene.runs();
        assert_eq!(scene.login(name, "secret").await, Err(Denied::Wait(Duration::from_secs(1))));
        assert_eq!(scene.runs(), before, "who must wait costs nothing");
        scene.clock.advance(Duration::from_secs(1));
        assert_eq!(scene.login(name, "wrong").await, Err(Denied::Wrong));
        assert_eq!(scene.login(name, "wrong").await, Err(Denied::Wait(Duration::from_secs(2))));
    }
}

#[tokio::test]
async fn the_right_password_ends_nothing_for_a_stranger_and_a_new_password_does() {
    let scene = scene();
    for stranger in 0..21 {
        let _ = scene.partners.verify("demo", "wrong", from(&format!("203.0.113.{stranger}"))).await;
    }
    assert!(matches!(scene.login("demo", "secret").await, Err(Denied::Wait(_))));
    scene.partners.passwd(&name("demo"), "another").unwrap();
    assert_eq!(scene.login("demo", "another").await.unwrap(), "Demo");
}

#[tokio::test]
async fn many_tries_at_once_get_no_more_guesses() {
    let scene = Arc::new(scene());
    let tries: Vec<_> = (0..40)
        .map(|_| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.login("demo", "wrong").await })
        })
        .collect();
    for one in tries {
        assert!(one.await.unwrap().is_err());
    }
    // Five that are free, the sixth that starts the wait, and those that had their turn at the same time.
    assert!(scene.runs() <= 7, "{} runs", scene.runs());
}

#[tokio::test]
async fn many_sessions_of_one_partner_pay_for_few_runs() {
    let scene = Arc::new(scene());
    let logins: Vec<_> = (0..64)
        .map(|_| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.login("demo", "secret").await })
        })
        .collect();
    for one in logins {
        assert!(one.await.unwrap().is_ok());
    }
    assert!(scene.runs() <= 2, "{} runs", scene.runs());
}

#[tokio::test]
async fn a_password_is_remembered_for_a_while_and_not_over_a_change() {
    let scene = scene();
    for (step, runs) in [(0, 1), (299, 0), (1, 1)] {
        scene.clock.advance(Duration::from_secs(step));
        let before = scene.runs();
        assert!(scene.login("demo", "secret").await.is_ok());
        assert_eq!(scene.runs() - before, runs);
    }

    scene.partners.disable(&name("demo")).unwrap();
    assert_eq!(scene.login("demo", "secret").await, Err(Denied::Wrong));
    scene.partners.enable(&name("demo")).unwrap();
    let before = scene.runs();
    assert!(scene.login("demo", "secret").await.is_ok());
    assert_eq!(scene.runs() - before, 1, "enabled again is verified again");

    scene.partners.passwd(&name("demo"), "another").unwrap();
    assert_eq!(scene.login("demo", "secret").await, Err(Denied::Wrong));
    assert!(scene.login("demo", "another").await.is_ok());

    scene.partners.remove(&name("demo")).unwrap();
    assert_eq!(scene.login("demo", "another").await, Err(Denied::Wrong));
}

#[tokio::test]
async fn another_process_s_password_change_is_not_passed_by_memory() {
    let scene = scene();
    assert!(scene.login("demo", "secret").await.is_ok());
    let clock = Arc::new(scene.clock.clone());
    let policies = Policies::default();
    let other = Partners::open(&scene.root.path().join("partners"), Limits::default(), policies, clock).unwrap();
    // Even to the same password: the stored hash is another one.
    other.passwd(&name("demo"), "secret").unwrap();
    let before = scene.runs();
    assert!(scene.login("demo", "secret").await.is_ok());
    assert_eq!(scene.runs() - before, 1);
    other.disable(&name("demo")).unwrap();
    assert_eq!(scene.login("demo", "secret").await, Err(Denied::Wrong));
    assert!(!scene.partners.is_enabled(&name("demo")));
}

#[tokio::test]
async fn only_the_right_password_learns_that_the_address_is_wrong() {
    let here: Override = toml::from_str("name = \"demo\"\nallow_from = [\"10.0.0.0/8\"]").unwrap();
    let scene = scene_with(Limits::default(), &[here]);
    assert_eq!(scene.login("demo", "wrong").await, Err(Denied::Wrong));
    assert_eq!(scene.login("demo", "secret").await, Err(Denied::Address));
    assert_eq!(scene.login("demo", "secret").await, Err(Denied::Address), "remembered or not");
    assert!(scene.partners.verify("demo", "secret", from("10.1.2.3")).await.is_ok());
    assert!(scene.partners.verify("demo", "secret", from("::ffff:10.1.2.3")).await.is_ok());
}

#[tokio::test]
async fn a_damaged_account_lets_no_one_in_and_harms_no_other() {
    let scene = scene();
    std::fs::write(scene.root.path().join("partners/broken.json"), "{").unwrap();
    assert_eq!(scene.login("broken", "secret").await, Err(Denied::Unavailable));
    assert!(scene.partners.get("broken").is_none());
    assert!(scene.login("demo", "secret").await.is_ok());
}

#[test]
fn passwords_that_cannot_be_sent_are_refused() {
    let scene = scene();
    let long = "x".repeat(1025);
    for password in ["", "a\r\nb", "a\0b", &long] {
        let refused = scene.partners.add(&name("new"), password, "");
        assert!(matches!(refused, Err(PartnersError::Password(_))));
        let refused = scene.partners.passwd(&name("demo"), password);
        assert!(matches!(refused, Err(PartnersError::Password(_))));
    }
    assert!(scene.partners.get("new").is_none());
    let unknown = scene.partners.passwd(&name("new"), "secret").unwrap_err();
    assert_eq!(unknown.to_string(), "there is no partner new");
}

#[test]
fn a_partner_s_own_limit_on_sessions_holds() {
    let many: Override = toml::from_str("name = \"demo\"\nmax_sessions = 2").unwrap();
    let limits = Limits { max_sessions_per_partner: 1, ..Limits::default() };
    let scene = scene_with(limits, &[many]);
    let peer = "192.0.2.1:1".parse().unwrap();
    scene.partners.add(&name("other"), "secret", "").unwrap();
    let open = |partner: &str| {
        let partner = Partner { name: name(partner), policy: Arc::default(), credentials: Credentials::default() };
        scene.partners.open_session(&partner, "ftp", peer)
    };
    let held = [open("Demo").unwrap(), open("demo").unwrap()];
    assert_eq!(open("DEMO").unwrap_err(), Denied::TooManySessions);
    let other = open("other").unwrap();
    assert_eq!(open("other").unwrap_err(), Denied::TooManySessions);
    assert_eq!(scene.partners.sessions().len(), 3);
    drop(held);
    drop(other);
    assert!(scene.partners.sessions().is_empty());
}

/// Strangers guess at a name, and the server was restarted since the partner came last.
#[tokio::test]
async fn a_partner_s_own_address_is_known_over_a_restart() {
    let scene = scene();
    let own: std::net::SocketAddr = "192.0.2.1:5000".parse().unwrap();
    let partner = scene.partners.verify("demo", "secret", own.ip()).await.unwrap();
    drop(scene.partners.open_session(&partner, "ftp", own).unwrap());
    let Scene { root, clock, partners } = scene;
    drop(partners);
    let (limits, policies) = (Limits::default(), Policies::new(Policy::default(), &[]));
    let partners = Partners::open(&root.path().join("partners"), limits, policies, Arc::new(clock.clone())).unwrap();
    let scene = Scene { root, clock, partners };
    for stranger in 0..21 {
        let _ = scene.partners.verify("demo", "wrong", from(&format!("203.0.113.{stranger}"))).await;
    }
    assert!(matches!(scene.partners.verify("demo", "secret", from("192.0.2.2")).await, Err(Denied::Wait(_))));
    assert_eq!(scene.login("demo", "secret").await.unwrap(), "Demo");
}

#[tokio::test]
async fn a_right_password_that_does_not_suffice_is_no_guess() {
    let by_key: Override = toml::from_str("name = \"demo\"\nauthentication = \"key\"").unwrap();
    let scene = scene_with(Limits::default(), &[by_key]);
    for _ in 0..40 {
        let denied = scene.login("demo", "secret").await.unwrap_err();
        assert_eq!((denied.is_guess(), denied), (false, Denied::KeyWanted));
    }
    let denied = scene.login("demo", "wrong").await.unwrap_err();
    assert_eq!((denied.is_guess(), denied), (true, Denied::Wrong));
}

#[tokio::test]
async fn a_session_lasts_as_long_as_all_that_it_came_in_by() {
    let scene = scene();
    let certificate = ClientCertificate::of(&certificate()).unwrap();
    let bound: Override = toml::from_str(&format!(
        "name = \"demo\"\ncertificate_suffices = true\ncertificates = [\"{}\"]",
        certificate.subject()
    ))
    .unwrap();
    let set = |overrides: &[Override]| scene.partners.set_policies(Policies::new(Policy::default(), overrides));
    set(std::slice::from_ref(&bound));
    let peer = "192.0.2.1:1".parse().unwrap();
    let certified = scene.partners.verify_certificate(&certificate, "demo", from("192.0.2.1")).unwrap();
    let by_certificate = scene.partners.open_session(&certified, "ftp", peer).unwrap();
    let known = scene.partners.verify("demo", "secret", from("192.0.2.1")).await.unwrap();
    let by_password = scene.partners.open_session(&known, "ftp", peer).unwrap();
    assert!(scene.partners.end_outdated().is_empty());
    // The binding is taken away.
    set(&[]);
    let ended: Vec<_> = scene.partners.end_outdated().into_iter().map(|session| session.id).collect();
    assert_eq!(ended, [by_certificate.id()]);
    assert!(by_certificate.is_kicked() && !by_password.is_kicked());
    assert!(scene.partners.end_outdated().is_empty(), "once is enough");
    // A login that was right, and is not any more when its session is opened.
    scene.partners.passwd(&name("demo"), "another").unwrap();
    assert_eq!(scene.partners.open_session(&known, "ftp", peer).unwrap_err(), Denied::Wrong);
    assert_eq!(scene.partners.open_session(&certified, "ftp", peer).unwrap_err(), Denied::Wrong);
    assert_eq!(scene.partners.end_outdated().len(), 1);
    assert!(by_password.is_kicked());
}

fn certificate() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "clinic");
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn the_name_of_a_removed_partner_rests_for_a_while() {
    let scene = scene();
    let again = name("DEMO");
    scene.partners.remove(&again).unwrap();
    assert!(matches!(scene.partners.add(&again, "x", ""), Err(PartnersError::Removed { .. })));
    scene.clock.advance(Duration::from_secs(29 * 86_400));
    let reopened = Partners::open(
        &scene.root.path().join("partners"),
        Limits::default(),
        Policies::new(Policy::default(), &[]),
        Arc::new(scene.clock.clone()),
    )
    .unwrap();
    assert!(matches!(reopened.add(&again, "x", ""), Err(PartnersError::Removed { .. })), "also after a restart");
    scene.partners.take_over(&again, "x", "").unwrap();
    assert!(scene.partners.former_until(&again).is_some(), "what is older is another one's");
    assert!(matches!(scene.partners.add(&again, "x", ""), Err(PartnersError::Exists(_))));
    scene.partners.remove(&again).unwrap();
    scene.clock.advance(Duration::from_secs(31 * 86_400));
    scene.partners.add(&again, "x", "").unwrap();
}

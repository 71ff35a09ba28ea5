//! Certificates of clients: each lets in the account that it is bound to, and nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::{io::Write, sync::Arc};

use forebay::{
    doors::ftp,
    partners::{ClientCertificate, Override, Policies, Policy},
};
use harness::{Ftp, House, PARTNER, PASSWORD, Plan, Stream, stream::showing, trusting};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, pki_types::PrivateKeyDer};

const OTHER: &str = "Lab";
const OTHER_PASSWORD: &str = "another password";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A client with a certificate of this name, and what the door makes of it.
struct Client {
    config: Arc<ClientConfig>,
    shown: ClientCertificate,
}

fn client(authority: &Authority, name: &str) -> Client {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, name);
    let made = params.signed_by(&key, authority).unwrap();
    let shown = ClientCertificate::of(made.der()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Client { config: showing(vec![made.der().clone()], key), shown }
}

struct Scene {
    house: House,
    ca: Authority,
    clinic: Client,
    lab: Client,
    nobody: Client,
    _file: tempfile::TempDir,
}

/// Two accounts with a certificate each: one bound by its fingerprint, one by its subject; `rules` hold for both.
fn scene(rules: &str) -> Scene {
    let ca = authority("partners");
    let (clinic, lab, nobody) = (client(&ca, "clinic"), client(&ca, "lab"), client(&ca, "nobody"));
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("ca.pem");
    std::fs::write(&path, ca.pem()).unwrap();
    let mut plan = Plan::default();
    plan.ftp = ftp::Options { client_ca: Some(path), ..plan.ftp };
    plan.overrides = overrides(rules, &clinic);
    let house = House::new(plan);
    house.partners.add(&OTHER.parse().unwrap(), OTHER_PASSWORD, "").unwrap();
    Scene { house, ca, clinic, lab, nobody, _file: file }
}

fn overrides(rules: &str, clinic: &Client) -> Vec<Override> {
    let one =
        |name: &str, bound: &str| toml::from_str(&format!("name = \"{name}\"\ncertificates = [\"{bound}\"]\n{rules}"));
    vec![
        one(PARTNER, &format!("sha256:{}", clinic.shown.fingerprint())).unwrap(),
        one(OTHER, "CN=lab,O=Example").unwrap(),
    ]
}

impl Scene {
    fn connect(&self, client: Option<&Client>) -> Ftp {
        let ftp = Ftp::connect(self.house.address);
        match client {
            Some(client) => ftp.auth_tls_with(client.config.clone()).unwrap(),
            None => ftp.auth_tls(),
        }
    }

    /// The codes of USER and, where it is asked for, PASS.
    fn login(&self, client: Option<&Client>, name: &str, password: &str) -> (u16, Option<u16>) {
        let mut ftp = self.connect(client);
        let first = ftp.command(&format!("USER {name}")).code;
        (first, (first == 331).then(|| ftp.command(&format!("PASS {password}")).code))
    }
}

#[test]
fn a_certificate_alone_lets_in_its_account_and_no_other() {
    let scene = scene("certificate_suffices = true");
    assert_eq!(scene.login(Some(&scene.clinic), PARTNER, ""), (232, None));
    assert_eq!(scene.login(Some(&scene.clinic), "cLINIC", ""), (232, None));
    assert_eq!(scene.login(Some(&scene.lab), OTHER, ""), (232, None));
    // Another's account, even with its password.
    assert_eq!(scene.login(Some(&scene.clinic), OTHER, OTHER_PASSWORD), (331, Some(530)));
    assert_eq!(scene.login(Some(&scene.lab), PARTNER, PASSWORD), (331, Some(530)));
    for name in ["stranger", "", "../Clinic", "Clinic\0"] {
        assert_ne!(scene.login(Some(&scene.clinic), name, "").0, 232, "{name:?}");
    }
    // Who shows none, or one that stands for nobody, needs the password.
    for client in [None, Some(&scene.nobody)] {
        assert_eq!(scene.login(client, PARTNER, "wrong"), (331, Some(530)));
        assert_eq!(scene.login(client, PARTNER, PASSWORD), (331, Some(230)));
    }
    let mut ftp = scene.connect(Some(&scene.clinic));
    assert_eq!(ftp.command(&format!("USER {PARTNER}")).code, 232);
    assert_eq!(ftp.command("PASS whatever").code, 202);
    assert_eq!(ftp.command(&format!("USER {OTHER}")).code, 503);
    ftp.protect();
    assert_eq!(ftp.store_secured("a.hl7", b"data").code, 226);
    assert_eq!(scene.house.entries()[0].partner, PARTNER);
}

/// Who shows the certificate of the control connection on data connections is known there as well as by a resumed session.
#[test]
fn a_partner_whose_data_connections_have_always_shown_its_certificate_must_go_on_so() {
    let scene = scene("certificate_suffices = true\ndata_resumption = \"auto\"");
    let mut ftp = scene.connect(Some(&scene.clinic));
    assert_eq!(ftp.command(&format!("USER {PARTNER}")).code, 232);
    ftp.protect();
    let store = |ftp: &mut Ftp, name: &str, config: &Arc<ClientConfig>| {
        // A client that resumes nothing.
        let mut config = ClientConfig::clone(config);
        config.resumption = rustls::client::Resumption::disabled();
        let data = ftp.passive();
        assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
        let mut data = Stream::secured_with(data, Arc::new(config)).unwrap();
        // Who is turned away may find the connection gone.
        let _ = data.write_all(b"data").and_then(|()| data.try_finish());
        drop(data);
        ftp.reply().code
    };
    for number in 0..10 {
        assert_eq!(store(&mut ftp, &number.to_string(), &scene.clinic.config), 226);
    }
    // Anyone with any TLS client.
    assert_eq!(store(&mut ftp, "stranger", &trusting()), 522);
    assert_eq!(store(&mut ftp, "own", &scene.clinic.config), 226);
    assert_eq!(scene.house.entries().len(), 11);
}

#[test]
fn where_a_certificate_is_required_no_password_is_of_use_without_it() {
    let scene = scene("require_certificate = true");
    for (client, name, password, code) in [
        (Some(&scene.clinic), PARTNER, PASSWORD, 230),
        (Some(&scene.lab), OTHER, OTHER_PASSWORD, 230),
        (Some(&scene.clinic), PARTNER, "wrong", 530),
        (None, PARTNER, PASSWORD, 530),
        (Some(&scene.nobody), PARTNER, PASSWORD, 530),
        (Some(&scene.lab), PARTNER, PASSWORD, 530),
        (Some(&scene.clinic), OTHER, OTHER_PASSWORD, 530),
    ] {
        assert_eq!(scene.login(client, name, password), (331, Some(code)), "{name} with {password}");
    }
    // Nor in the clear.
    let mut ftp = Ftp::connect(scene.house.address);
    assert!(ftp.try_login(PARTNER, PASSWORD).is_err());
}

#[test]
fn both_rules_together_mean_that_only_the_certificate_counts() {
    let scene = scene("require_certificate = true\ncertificate_suffices = true");
    assert_eq!(scene.login(Some(&scene.clinic), PARTNER, ""), (232, None));
    assert_eq!(scene.login(None, PARTNER, PASSWORD), (331, Some(530)));
}

#[test]
fn a_certificate_takes_the_place_of_a_key_where_one_is_wanted() {
    let both = scene("authentication = \"key+password\"\ncertificate_suffices = true");
    assert_eq!(both.login(Some(&both.clinic), PARTNER, PASSWORD), (331, Some(230)));
    assert_eq!(both.login(Some(&both.clinic), PARTNER, "wrong"), (331, Some(530)));
    assert_eq!(both.login(None, PARTNER, PASSWORD), (331, Some(530)));
    assert_eq!(both.login(Some(&both.nobody), PARTNER, PASSWORD), (331, Some(530)));
    let key = scene("authentication = \"key\"\ncertificate_suffices = true");
    assert_eq!(key.login(Some(&key.clinic), PARTNER, ""), (232, None));
    assert_eq!(key.login(None, PARTNER, PASSWORD), (331, Some(530)));
}

#[test]
fn certificates_of_other_authorities_do_not_get_in() {
    let scene = scene("certificate_suffices = true");
    // The same names, of an authority of the same name.
    let forged = client(&authority("partners"), "lab");
    assert_eq!(forged.shown.subject(), scene.lab.shown.subject());
    let let_in = Ftp::connect(scene.house.address)
        .auth_tls_with(forged.config)
        .and_then(|mut ftp| ftp.try_command(&format!("USER {OTHER}")))
        .is_ok_and(|reply| reply.code < 400);
    assert!(!let_in);
    // A name that only looks like the bound one when it is written without care.
    let lookalike = client(&scene.ca, "lab,O=Example");
    assert_eq!(scene.login(Some(&lookalike), OTHER, "").0, 331);
}

#[test]
fn what_is_bound_changes_with_the_configuration_at_once() {
    let scene = scene("certificate_suffices = true");
    assert_eq!(scene.login(Some(&scene.clinic), PARTNER, "").0, 232);
    scene.house.partners.set_policies(Policies::new(Policy::default(), &[]));
    assert_eq!(scene.login(Some(&scene.clinic), PARTNER, "").0, 331);
    scene
        .house
        .partners
        .set_policies(Policies::new(Policy::default(), &overrides("certificate_suffices = true", &scene.clinic)));
    scene.house.partners.disable(&PARTNER.parse().unwrap()).unwrap();
    assert_eq!(scene.login(Some(&scene.clinic), PARTNER, PASSWORD), (331, Some(530)));
    // And an address that is not allowed is not let in by a certificate either.
    scene.house.partners.enable(&PARTNER.parse().unwrap()).unwrap();
    let far = Policy { allow_from: vec!["203.0.113.0/24".parse().unwrap()], ..Policy::default() };
    scene.house.partners.set_policies(Policies::new(far, &overrides("certificate_suffices = true", &scene.clinic)));
    assert_eq!(scene.login(Some(&scene.clinic), PARTNER, PASSWORD), (331, Some(530)));
}

#[test]
fn a_data_connection_with_another_certificate_is_refused() {
    let scene = scene("certificate_suffices = true");
    let mut ftp = scene.connect(Some(&scene.clinic));
    assert_eq!(ftp.command(&format!("USER {PARTNER}")).code, 232);
    ftp.protect();
    for (client, code) in [(&scene.lab, 522), (&scene.nobody, 522), (&scene.clinic, 226)] {
        let data = ftp.passive();
        assert_eq!(ftp.command("STOR a.hl7").code, 150);
        let mut data = Stream::secured_with(data, client.config.clone()).unwrap();
        let _ = data.write_all(b"data");
        if code == 226 {
            data.finish();
        }
        drop(data);
        assert_eq!(ftp.reply().code, code);
    }
    assert_eq!(scene.house.entries().len(), 1);
}

#[test]
fn the_subject_is_as_openssl_writes_it() {
    let scene = scene("");
    let made = std::process::Command::new("openssl").args(["version"]).output();
    if made.is_err() {
        println!("no openssl here");
        return;
    }
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in [
        (DnType::CountryName, "US"),
        (DnType::StateOrProvinceName, "#Texas"),
        (DnType::LocalityName, " Austin; \"<>\" "),
        (DnType::OrganizationName, "Clinic, Z\u{fc}rich + more \\ = x"),
        (DnType::CommonName, "clinic"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    let made = params.signed_by(&key, &scene.ca).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.pem()).unwrap();
    let shown = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in"])
        .arg(file.path())
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(
        shown.trim_end_matches('\n'),
        format!("subject={}", ClientCertificate::of(made.der()).unwrap().subject())
    );
}

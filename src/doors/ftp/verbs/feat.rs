//! The door as it tells of itself: FEAT (RFC 2389, 3) and HELP (RFC 959, 4.1.3). They list what
//! works now, and nothing else, so a new verb is added here by hand.

use crate::doors::ftp::{client::Client, digest::Algorithm, reply::Reply};

/// The abilities that FEAT and HELP depend on.
pub(in crate::doors::ftp) struct Abilities {
    pub(in crate::doors::ftp) tls: bool,
    pub(in crate::doors::ftp) active: bool,
    pub(in crate::doors::ftp) hash: Algorithm,
}

/// FEAT (RFC 2389, 3.2): one feature a line. `*` marks the chosen algorithm of HASH.
pub(in crate::doors::ftp) fn feat(abilities: &Abilities) -> Reply {
    let hashes: Vec<String> = Algorithm::ALL
        .iter()
        .map(|one| if *one == abilities.hash { format!("{one}*") } else { one.to_string() })
        .collect();
    let hashes = format!("HASH {}", hashes.join(";"));
    let mut features = vec!["Features:".to_owned()];
    // RFC 4217, 6: only where it is served, since clients take it as an offer.
    if abilities.tls {
        features.extend(["AUTH TLS", "PBSZ", "PROT"].map(str::to_owned));
    }
    if abilities.active {
        features.push("EPRT".to_owned());
    }
    features.extend(["CLNT", "EPSV"].map(str::to_owned));
    features.push(hashes);
    let rest = [
        "HOST",
        "LANG EN*",
        "MDTM",
        "MFMT",
        "MLST type*;size*;modify*;",
        "REST STREAM",
        "SIZE",
        "TVFS",
        "UTF8",
        "XCRC",
        "XMD5",
        "XSHA1",
        "XSHA256",
        "XSHA512",
    ];
    features.extend(rest.map(str::to_owned));
    Reply::lines(211, features, "End")
}

/// HELP (RFC 959, 4.1.3).
pub(in crate::doors::ftp) fn help(abilities: &Abilities) -> Reply {
    let mut lines = vec!["Commands:".to_owned()];
    if abilities.tls {
        lines.push("AUTH PBSZ PROT".to_owned());
    }
    if abilities.active {
        lines.push("EPRT PORT".to_owned());
    }
    lines.extend(
        [
            "ABOR ALLO APPE CDUP CLNT CWD DELE EPSV FEAT HASH HELP HOST LANG LIST MDTM MFMT MKD MLSD MLST",
            "MODE NLST NOOP OPTS PASS PASV PWD QUIT REST RETR RMD RNFR RNTO SITE SIZE STAT STOR STOU",
            "STRU SYST TYPE USER XCRC XMD5 XSHA1 XSHA256 XSHA512",
            "SITE HELP and SITE STATUS",
        ]
        .map(str::to_owned),
    );
    Reply::lines(214, lines, "Uploads are kept at every hour, also during maintenance")
}

impl Client {
    /// The abilities of this session.
    pub(in crate::doors::ftp) fn abilities(&self) -> Abilities {
        Abilities { tls: self.context.tls.is_some(), active: self.context.options.active, hash: self.hash }
    }
}

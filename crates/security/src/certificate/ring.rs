//! Which certificates are a credential, and whose.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

use super::{CertificateFacts, ClientCertificate};
use crate::api_key::KeyRecord;
use crate::principal::{Principal, PrincipalKind, Proof};

/// What a certificate is recognised by, in the order in which it is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CertificateName {
    /// SHA-256 of the certificate: `sha256:` and 64 hex digits, with or without colons between them.
    Fingerprint([u8; 32]),
    /// A URI among the alternative names: `uri:spiffe://example.com/robot`.
    Uri(String),
    /// A host name among the alternative names, whatever its case: `dns:robot.example.com`. It stands for itself alone,
    /// also when it begins with `*.`.
    Dns(String),
    /// An e-mail address among the alternative names: `email:robot@example.com`.
    Email(String),
    /// The common name of the subject, if it has exactly one: `CN=robot`.
    CommonName(String),
}

/// A text that names no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no certificate; write `sha256:` and its fingerprint (`openssl x509 -noout -fingerprint -sha256`), `uri:…`, \
     `dns:…`, `email:…` or `CN=…`"
)]
pub struct CertificateNameError(String);

impl FromStr for CertificateName {
    type Err = CertificateNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CertificateNameError(text.chars().take(80).flat_map(char::escape_debug).collect());
        let named = |name: &str| {
            let good = !name.is_empty() && !name.chars().any(char::is_control);
            good.then(|| name.to_owned()).ok_or_else(error)
        };
        if let Some(digits) = text.strip_prefix("sha256:") {
            let mut fingerprint = [0; 32];
            let digits = digits.replace(':', "");
            hex::decode_to_slice(digits, &mut fingerprint).map_err(|_| error())?;
            return Ok(Self::Fingerprint(fingerprint));
        }
        match (text.split_once(':'), text.split_once('=')) {
            (Some(("uri", name)), _) => named(name).map(Self::Uri),
            (Some(("dns", name)), _) => named(name).map(|name| Self::Dns(name.to_ascii_lowercase())),
            (Some(("email", name)), _) => named(name).map(Self::Email),
            (_, Some(("CN", name))) => named(name).map(Self::CommonName),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(digest) => write!(f, "sha256:{}", hex::encode(digest)),
            Self::Uri(name) => write!(f, "uri:{name}"),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Email(name) => write!(f, "email:{name}"),
            Self::CommonName(name) => write!(f, "CN={name}"),
        }
    }
}

/// The certificates that are a credential.
#[derive(Debug, Clone, Default)]
pub struct CertificateRing {
    by_name: HashMap<CertificateName, KeyRecord>,
}

/// Why a certificate is no credential. For audit records: a client is told that it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoCredential {
    /// No entry names it.
    #[error("no entry of client_certificates names it")]
    Unnamed,
    /// Two entries by names of the same kind: which one should hold?
    #[error("two entries of client_certificates name it by the same kind of name")]
    Ambiguous,
    /// It is past its end, or those who vouched for it do not count any more.
    #[error("it is out of its time, or no authority vouches for it any more")]
    Lapsed,
    /// Its entry is past its `expires_at`.
    #[error("its entry of client_certificates has expired")]
    Expired,
    /// It was shown from an address that is not one of its entry's `allowed_ips`.
    #[error("it came from an address that is not one of its entry's `allowed_ips`")]
    Elsewhere,
}

impl CertificateRing {
    /// A ring of these entries.
    ///
    /// # Errors
    /// A certificate is named twice, or two entries have the same id; it is given.
    pub fn new(entries: impl IntoIterator<Item = (CertificateName, KeyRecord)>) -> Result<Self, String> {
        let mut ring = Self::default();
        let mut ids = std::collections::HashSet::new();
        for (name, record) in entries {
            if !ids.insert(record.id.clone()) {
                return Err(record.id);
            }
            let text = name.to_string();
            if ring.by_name.insert(name, record).is_some() {
                return Err(text);
            }
        }
        Ok(ring)
    }

    /// Whose certificate this is at `now`, shown from that address. The most exact kind of name decides: fingerprint, URI, host name, e-mail
    /// address, common name.
    ///
    /// # Errors
    /// It is nobody's.
    pub fn find(
        &self,
        certificate: &ClientCertificate,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Arc<Principal>, NoCredential> {
        if !certificate.counts_at(now) {
            return Err(NoCredential::Lapsed);
        }
        let record = self.record_of(certificate.facts())?;
        let principal = principal(
            record,
            certificate.facts().not_after().into(),
            Proof::Certificate(certificate.clone()),
        );
        if record.allowed_ips.as_ref().is_some_and(|networks| !networks.contains(from)) {
            return Err(NoCredential::Elsewhere);
        }
        match principal.is_expired_at(now) {
            true => Err(NoCredential::Expired),
            false => Ok(Arc::new(principal)),
        }
    }

    fn record_of(&self, facts: &CertificateFacts) -> Result<&KeyRecord, NoCredential> {
        let kinds: [Vec<CertificateName>; 5] = [
            vec![CertificateName::Fingerprint(*facts.fingerprint())],
            facts.uris().iter().cloned().map(CertificateName::Uri).collect(),
            facts.dns_names().iter().map(|name| CertificateName::Dns(name.to_ascii_lowercase())).collect(),
            facts.emails().iter().cloned().map(CertificateName::Email).collect(),
            facts
                .common_name()
                .map(|name| CertificateName::CommonName(name.to_owned()))
                .into_iter()
                .collect(),
        ];
        for names in kinds {
            let mut found = names.iter().filter_map(|name| self.by_name.get(name));
            if let Some(record) = found.next() {
                return match found.all(|other| other.id == record.id) {
                    true => Ok(record),
                    false => Err(NoCredential::Ambiguous),
                };
            }
        }
        Err(NoCredential::Unnamed)
    }

    /// The holder of the certificate whose entry has this id, or else this name: for questions about it, not for
    /// requests.
    pub(crate) fn principal(&self, id_or_name: &str) -> Option<Arc<Principal>> {
        let by_id = self.by_name.values().find(|record| record.id == id_or_name);
        let by_name = || self.by_name.get(&id_or_name.parse::<CertificateName>().ok()?);
        by_id.or_else(by_name).map(|record| Arc::new(principal(record, None, Proof::None)))
    }

    /// The entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (&CertificateName, &KeyRecord)> {
        self.by_name.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Who an entry names, until its end or that of the certificate, whichever is sooner.
fn principal(record: &KeyRecord, not_after: Option<Timestamp>, proof: Proof) -> Principal {
    Principal { kind: PrincipalKind::Certificate, proof, ..record.to_principal(record.digest, not_after) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::ClientTrust;
    use crate::digest::KeyDigest;
    use crate::permission::PermissionSet;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn record(id: &str) -> KeyRecord {
        let roles = vec!["robot".to_owned()];
        KeyRecord { permissions: PermissionSet::ALL, ..KeyRecord::new(KeyDigest::of(id), id, roles) }
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn certificate() -> CertificateFacts {
        CertificateFacts {
            fingerprint: [7; 32],
            common_name: Some("robot".into()),
            dns_names: vec!["Robot.example.com".into(), "other.example.com".into()],
            uris: vec!["spiffe://example.com/robot".into()],
            emails: vec!["robot@example.com".into()],
            not_before: time("2026-01-01T00:00:00Z"),
            not_after: time("2027-01-01T00:00:00Z"),
        }
    }

    fn find(entries: &[(&str, &str)], now: &str) -> Result<String, NoCredential> {
        let ring = CertificateRing::new(entries.iter().map(|(name, id)| (name.parse().unwrap(), record(id))))
            .unwrap();
        let certificate = ClientCertificate::new(certificate(), ClientTrust::new());
        ring.find(&certificate, FROM, time(now)).map(|principal| principal.id().to_owned())
    }

    #[test]
    fn the_most_exact_name_decides_and_only_whole_names_count() {
        const NOW: &str = "2026-06-01T00:00:00Z";
        let fingerprint = format!("sha256:{}", "07:".repeat(32).trim_end_matches(':'));
        for (entries, expected) in [
            (&[][..], Err(NoCredential::Unnamed)),
            (&[("CN=robot", "a")], Ok("a")),
            (&[("CN=robot", "a"), ("email:robot@example.com", "b")], Ok("b")),
            (&[("email:robot@example.com", "b"), ("dns:robot.EXAMPLE.com", "c")], Ok("c")),
            (&[("dns:robot.example.com", "c"), ("uri:spiffe://example.com/robot", "d")], Ok("d")),
            (&[("uri:spiffe://example.com/robot", "d"), (fingerprint.as_str(), "e")], Ok("e")),
            (&[("dns:robot.example.com", "a"), ("dns:other.example.com", "b")], Err(NoCredential::Ambiguous)),
            (&[("CN=Robot", "a")], Err(NoCredential::Unnamed)),
            (&[("CN=robo", "a"), ("CN=robots", "b")], Err(NoCredential::Unnamed)),
            (&[("dns:*.example.com", "a"), ("uri:spiffe://example.com/", "b")], Err(NoCredential::Unnamed)),
            (&[("email:Robot@example.com", "a")], Err(NoCredential::Unnamed)),
        ] {
            assert_eq!(find(entries, NOW), expected.map(str::to_owned), "{entries:?}");
        }
    }

    #[test]
    fn a_certificate_counts_in_its_time_and_as_long_as_somebody_vouches_for_it() {
        let entries = [("CN=robot", "a")];
        assert_eq!(find(&entries, "2025-12-31T23:59:59Z"), Err(NoCredential::Lapsed));
        assert_eq!(find(&entries, "2027-01-01T00:00:01Z"), Err(NoCredential::Lapsed));
        let ring = |expires_at: Option<&str>| {
            let record = KeyRecord { expires_at: expires_at.map(time), ..record("a") };
            CertificateRing::new([("CN=robot".parse().unwrap(), record)]).unwrap()
        };
        let trust = ClientTrust::new();
        let shown = ClientCertificate::new(certificate(), trust.clone());
        let now = time("2026-06-01T00:00:00Z");
        let found = ring(None).find(&shown, FROM, now).unwrap();
        assert_eq!(
            found.expires_at(),
            Some(time("2027-01-01T00:00:00Z")),
            "sockets close when the certificate ends"
        );
        let found = ring(Some("2026-07-01T00:00:00Z")).find(&shown, FROM, now).unwrap();
        assert_eq!(found.expires_at(), Some(time("2026-07-01T00:00:00Z")));
        assert_eq!(
            ring(Some("2026-05-01T00:00:00Z")).find(&shown, FROM, now).unwrap_err(),
            NoCredential::Expired
        );
        let networks = |text: &str| Some(crate::networks::Networks::parse([text]).unwrap());
        for (allowed_ips, expected) in [
            (networks("192.0.2.0/24"), Ok("a".to_owned())),
            (networks("198.51.100.0/24"), Err(NoCredential::Elsewhere)),
        ] {
            let ring = CertificateRing::new([(
                "CN=robot".parse().unwrap(),
                KeyRecord { allowed_ips, ..record("a") },
            )]);
            assert_eq!(ring.unwrap().find(&shown, FROM, now).map(|found| found.id().to_owned()), expected);
        }
        trust.withdraw();
        assert_eq!(ring(None).find(&shown, FROM, now).unwrap_err(), NoCredential::Lapsed);
    }

    #[test]
    fn names_are_read_or_refused_with_a_mend() {
        for bad in
            ["", "robot", "CN=", "cn=robot", "dns:", "sha256:12", "O=x", "uri", "CN=a\u{0}b", "ip:127.0.0.1"]
        {
            let error = bad.parse::<CertificateName>().unwrap_err().to_string();
            assert!(error.contains("fingerprint") && error.contains("CN="), "{error}");
        }
        let name: CertificateName = "CN=a=b:c".parse().unwrap();
        assert_eq!(name, CertificateName::CommonName("a=b:c".into()));
        for text in ["uri:spiffe://x/y", "dns:a.b", "email:a@b", "CN=x"] {
            assert_eq!(text.parse::<CertificateName>().unwrap().to_string(), text);
        }
    }
}

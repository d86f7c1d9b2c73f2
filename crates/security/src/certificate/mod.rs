//! What an X.509 certificate says, and client certificates as they come out of a TLS handshake.

mod ring;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

pub use self::ring::{CertificateName, CertificateNameError, CertificateRing, NoCredential};

/// What is read of a certificate. Reading it proves nothing: who presents one must have been checked against the
/// authorities by the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    fingerprint: [u8; 32],
    common_name: Option<String>,
    dns_names: Vec<String>,
    uris: Vec<String>,
    emails: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Bytes that are no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no X.509 certificate: {0}")]
pub struct CertificateError(String);

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is none, or holds times that are none.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| CertificateError(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CertificateError("something follows it".to_owned()));
        }
        let time = |seconds: i64| {
            Timestamp::from_second(seconds).map_err(|error| CertificateError(error.to_string()))
        };
        let mut names = certificate.subject().iter_common_name();
        // Of several nobody knows which one is meant.
        let common_name = match (names.next(), names.next()) {
            (Some(name), None) => name.as_str().ok().map(str::to_owned),
            _ => None,
        };
        let validity = certificate.validity();
        let mut facts = Self {
            fingerprint: Sha256::digest(der).into(),
            common_name,
            dns_names: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            not_before: time(validity.not_before.timestamp())?,
            not_after: time(validity.not_after.timestamp())?,
        };
        let alternatives = certificate.subject_alternative_name();
        let alternatives = alternatives.map_err(|error| CertificateError(error.to_string()))?;
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => facts.dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => facts.uris.push((*uri).to_owned()),
                GeneralName::RFC822Name(email) => facts.emails.push((*email).to_owned()),
                _ => {}
            }
        }
        Ok(facts)
    }

    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` prints it but for case and colons.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// `CN` of the subject, if there is exactly one.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Host names among the alternative names.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// URIs among the alternative names.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// E-mail addresses among the alternative names.
    pub fn emails(&self) -> &[String] {
        &self.emails
    }

    /// From when on it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is valid at `now`.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Whether the authorities that vouched for a client's certificate are still those that count. Clones are the same.
#[derive(Debug, Clone)]
pub struct ClientTrust(Arc<AtomicBool>);

impl ClientTrust {
    /// They are.
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// They are no more, from now on.
    pub fn withdraw(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn holds(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for ClientTrust {
    fn default() -> Self {
        Self::new()
    }
}

/// The certificate that a client proved to have the key of. In the extensions of each request of its connection. Equal is
/// what says the same.
#[derive(Clone)]
pub struct ClientCertificate {
    facts: Arc<CertificateFacts>,
    trust: ClientTrust,
}

impl ClientCertificate {
    /// A certificate that authorities of ours vouch for, as long as `trust` holds.
    pub fn new(facts: CertificateFacts, trust: ClientTrust) -> Self {
        Self { facts: Arc::new(facts), trust }
    }

    /// What it says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Whether it counts at `now`: it is within its time, and those who vouched for it still count. A handshake checks
    /// that once; a connection can be open for longer.
    pub fn counts_at(&self, now: Timestamp) -> bool {
        self.trust.holds() && self.facts.is_valid_at(now)
    }
}

#[cfg(test)]
impl CertificateFacts {
    /// One that is valid for an hour from now on.
    pub(crate) fn of_test(common_name: &str) -> Self {
        let now = Timestamp::now();
        Self {
            fingerprint: Sha256::digest(common_name).into(),
            common_name: Some(common_name.to_owned()),
            dns_names: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            not_before: now,
            not_after: now + jiff::SignedDuration::from_hours(1),
        }
    }
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

impl Eq for ClientCertificate {}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificate").field(&self.facts.common_name).finish()
    }
}

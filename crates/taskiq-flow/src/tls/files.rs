//! From PEM files to what TLS is served with.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use secrecy::SecretSlice;
use sha2::{Digest, Sha256};
use taskiq_flow_api::serve::PROTOCOLS;
use taskiq_flow_security::certificate::CertificateFacts;

use super::{TlsError, TlsFiles};
use crate::config::TlsClientAuth;

/// The longest file, in bytes: many times what a chain or a bundle of authorities takes.
const MAX_FILE: u64 = 4 << 20;

/// What a set of files holds.
pub(super) struct Material {
    pub(super) config: ServerConfig,
    /// When the server's certificate ends.
    pub(super) not_after: Timestamp,
    /// Of all that was read.
    pub(super) digest: [u8; 32],
    /// Of what decides which clients are vouched for.
    pub(super) clients: [u8; 32],
    /// What works and should not be left so.
    pub(super) warnings: Vec<String>,
}

/// One file that was read.
struct Source<'a> {
    field: &'static str,
    path: &'a Path,
    bytes: Vec<u8>,
}

/// Reads all files and checks that they fit together.
pub(super) fn read(files: &TlsFiles) -> Result<Material, TlsError> {
    let certificate = Source::read("tls_cert", &files.certificate)?;
    let key = Source::read("tls_key", &files.key)?;
    let client_ca = files.client_ca.as_deref().map(|path| Source::read("tls_client_ca", path)).transpose()?;

    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificate.certificates()?;
    let facts = chain
        .first()
        .map_or_else(|| Err(certificate.without_certificate()), |leaf| certificate.facts(leaf))?;
    let certified = certified(&provider, &certificate, chain, &key)?;
    let config = configure(&provider, certified, client_ca.as_ref(), files.client_auth)?;

    let mut warnings = Vec::new();
    warnings.extend(key.readable_by_all());
    let mut clients = Sha256::new();
    clients.update([u8::from(files.client_auth == TlsClientAuth::Required)]);
    clients.update(client_ca.as_ref().map_or(&[][..], |source| &source.bytes));
    let clients: [u8; 32] = clients.finalize().into();
    let mut digest = Sha256::new();
    for bytes in [&certificate.bytes[..], &key.bytes, &clients] {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    }
    Ok(Material { config, not_after: facts.not_after(), digest: digest.finalize().into(), clients, warnings })
}

/// A client's certificate and the key that it was made with, as one PEM text, if they can be read and fit each other.
/// `names` are what errors call the two files, such as the options that named them.
///
/// # Errors
/// [`TlsError`].
pub fn client_identity(
    names: [&'static str; 2],
    certificate: &Path,
    key: &Path,
) -> Result<SecretSlice<u8>, TlsError> {
    let certificate = Source::read(names[0], certificate)?;
    let key = Source::read(names[1], key)?;
    certified(&aws_lc_rs::default_provider(), &certificate, certificate.certificates()?, &key)?;
    Ok(SecretSlice::from([&certificate.bytes[..], b"\n", &key.bytes].concat()))
}

impl TlsError {
    /// Of what it says: the same mistake twice is one.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        Some(Sha256::digest(self.to_string()).into())
    }
}

fn configure(
    provider: &Arc<CryptoProvider>,
    certified: CertifiedKey,
    client_ca: Option<&Source<'_>>,
    client_auth: TlsClientAuth,
) -> Result<ServerConfig, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(&[&TLS13, &TLS12]);
    // It fails only when the provider has no suite for one of the versions, and it has.
    let builder = builder.map_err(|error| unusable("tls_cert", Path::new("-"), error.to_string()))?;
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let Some(source) = client_ca else {
        return Ok(offer(builder.with_no_client_auth().with_cert_resolver(resolver)));
    };
    let mut roots = RootCertStore::empty();
    for authority in source.certificates()? {
        roots.add(authority).map_err(|error| {
            source.unusable(format!("holds a certificate that is no authority ({error})"))
        })?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = match client_auth {
        TlsClientAuth::Required => verifier,
        TlsClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(|error| source.unusable(format!("cannot be used: {error}")))?;
    let mut config = offer(builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver));
    // A resumed session brings the certificate of its first handshake along, unchecked: none is resumed, so that a
    // client proves for each connection that it has the key and that somebody of ours still vouches for it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What every configuration has: both versions of HTTP, and suites in the order that we like better.
fn offer(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.ignore_client_order = true;
    config
}

fn certified(
    provider: &CryptoProvider,
    certificate: &Source<'_>,
    chain: Vec<CertificateDer<'static>>,
    key: &Source<'_>,
) -> Result<CertifiedKey, TlsError> {
    let key_der = key.private_key()?;
    let signing = provider.key_provider.load_private_key(key_der);
    let signing = signing.map_err(|error| {
        key.unusable(format!(
            "holds a key that cannot be used ({error}); use ECDSA P-256, Ed25519 or RSA of 2048 bits or more"
        ))
    })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        // The key does not say which public key is its own: the first handshake will show.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(key.unusable(format!(
            "is not the key of the first certificate in {}; name the key that it was made with (`{}`: the own certificate \
             comes first, then those that signed it)",
            certificate.path.display(),
            certificate.field
        ))),
        Err(error) => Err(certificate.unusable(format!("holds a certificate that cannot be used: {error}"))),
    }
}

impl<'a> Source<'a> {
    fn read(field: &'static str, path: &'a Path) -> Result<Self, TlsError> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
        match read {
            Err(source) => Err(TlsError::Unreadable { field, file: path.to_owned(), source }),
            Ok(_) if bytes.len() as u64 > MAX_FILE => {
                Err(unusable(field, path, format!("is longer than {} MiB; name a PEM file", MAX_FILE >> 20)))
            }
            Ok(_) => Ok(Self { field, path, bytes }),
        }
    }

    fn unusable(&self, problem: impl Into<String>) -> TlsError {
        unusable(self.field, self.path, problem)
    }

    fn without_certificate(&self) -> TlsError {
        let hint = match (self.holds("PRIVATE KEY"), self.field) {
            (true, "tls_client_ca") => "it holds a key: name the PEM file of the certificates",
            (true, _) => "it holds a key: are certificate and key exchanged?",
            (false, _) => "name a PEM file",
        };
        self.unusable(format!("has no certificate (`-----BEGIN CERTIFICATE-----`); {hint}"))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match all {
            Ok(all) if all.is_empty() => Err(self.without_certificate()),
            Ok(all) => Ok(all),
            Err(error) => Err(self.unusable(format!("is no sound PEM file: {error}"))),
        }
    }

    fn facts(&self, leaf: &CertificateDer<'_>) -> Result<CertificateFacts, TlsError> {
        CertificateFacts::from_der(leaf).map_err(|error| self.unusable(format!("cannot be used: {error}")))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        if self.holds("ENCRYPTED") {
            return Err(self.unusable(
                "is encrypted with a passphrase, which nobody is asked for here; decrypt it with `openssl pkey -in OLD -out NEW` \
                 and keep it readable for its user alone",
            ));
        }
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| {
            let hint = match self.holds("BEGIN CERTIFICATE") {
                true => "it holds a certificate: are certificate and key exchanged?",
                false => "name the PEM file of the key",
            };
            self.unusable(format!("has no private key (`-----BEGIN PRIVATE KEY-----`); {hint}"))
        })
    }

    /// Whether one of the PEM's own lines says so. What is between them never reaches a message.
    fn holds(&self, mark: &str) -> bool {
        let lines = self.bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        let mut marks =
            lines.filter(|line| line.starts_with("-----BEGIN ") || line.starts_with("Proc-Type:"));
        marks.any(|line| line.contains(mark))
    }

    fn readable_by_all(&self) -> Option<String> {
        let mode = std::fs::metadata(self.path).ok()?.permissions().mode();
        (mode & 0o004 != 0).then(|| {
            let path = self.path.display();
            format!("{}: every user of this machine can read {path}; `chmod o= {path}` ends that", self.field)
        })
    }
}

fn unusable(field: &'static str, path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Unusable { field, file: path.to_owned(), problem: problem.into() }
}

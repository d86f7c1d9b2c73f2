//! Certificates and TLS connections.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::command::{directory, write};

/// A self-signed certificate and its key, made by openssl, for a few days.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate, a PEM file.
    pub certificate: PathBuf,
    /// The key, a PEM file.
    pub key: PathBuf,
}

impl Pair {
    /// Makes a pair for these host names, `localhost` and 127.0.0.1 in `directory`.
    ///
    /// # Panics
    /// When there is no openssl.
    pub fn self_signed(directory: &Path, names: &[&str]) -> Self {
        let names: String = names.iter().map(|name| format!("DNS:{name},")).collect();
        let config = format!(
            "[req]\ndistinguished_name = name\nx509_extensions = leaf\nprompt = no\n[name]\nCN = taskiq-flow test\n\
             [leaf]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = {names}DNS:localhost,IP:127.0.0.1\n"
        );
        let config = write(directory, "pair.cnf", &config);
        let pair = Self { certificate: directory.join("pair.crt"), key: directory.join("pair.key") };
        let arguments = ["req", "-x509", "-days", "3"].map(OsStr::new);
        openssl(arguments.into_iter().chain(new_key()).chain(into(&config, &pair)));
        pair
    }

    /// The text of the certificate and of the key.
    ///
    /// # Panics
    /// When a file is gone.
    pub fn both(&self) -> String {
        let key = std::fs::read_to_string(&self.key);
        format!("{}{}", self.pem(), key.unwrap_or_else(|error| panic!("{}: {error}", self.key.display())))
    }

    /// The text of the certificate.
    ///
    /// # Panics
    /// When its file is gone.
    pub fn pem(&self) -> String {
        let text = std::fs::read_to_string(&self.certificate);
        text.unwrap_or_else(|error| panic!("{}: {error}", self.certificate.display()))
    }
}

/// A certificate authority with its files in a directory of its own.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
    own: Pair,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When there is no openssl.
    pub fn new() -> Self {
        let directory = directory();
        let config = "[req]\ndistinguished_name = name\nx509_extensions = ca\nprompt = no\n[name]\nCN = test authority\n\
                      [ca]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = keyCertSign\n";
        let config = write(directory.path(), "ca.cnf", config);
        let own = Pair { certificate: directory.path().join("ca.crt"), key: directory.path().join("ca.key") };
        let arguments = ["req", "-x509", "-days", "3"].map(OsStr::new);
        openssl(arguments.into_iter().chain(new_key()).chain(into(&config, &own)));
        Self { directory, own }
    }

    /// Its certificate, a PEM file.
    pub fn certificate(&self) -> &Path {
        &self.own.certificate
    }

    /// A certificate for a client, or with `names` for a server: `subject` is such as `/CN=robot`, `names` such as
    /// `DNS:localhost,URI:spiffe://x/y`; empty: none.
    ///
    /// # Panics
    /// When openssl refuses.
    pub fn issue(&self, file: &str, subject: &str, names: &str) -> Pair {
        let within = |extension: &str| self.directory.path().join(format!("{file}.{extension}"));
        let pair = Pair { certificate: within("crt"), key: within("key") };
        let config =
            write(self.directory.path(), "request.cnf", "[req]\ndistinguished_name = name\n[name]\n");
        let request = Pair { certificate: within("csr"), key: pair.key.clone() };
        let arguments = ["req", "-subj", subject].map(OsStr::new);
        openssl(arguments.into_iter().chain(new_key()).chain(into(&config, &request)));
        let names = if names.is_empty() { String::new() } else { format!("subjectAltName = {names}\n") };
        let extensions = write(
            self.directory.path(),
            "leaf.cnf",
            &format!("basicConstraints = critical, CA:FALSE\n{names}"),
        );
        openssl([
            OsStr::new("x509"),
            OsStr::new("-req"),
            OsStr::new("-days"),
            OsStr::new("3"),
            OsStr::new("-in"),
            request.certificate.as_os_str(),
            OsStr::new("-CA"),
            self.own.certificate.as_os_str(),
            OsStr::new("-CAkey"),
            self.own.key.as_os_str(),
            OsStr::new("-CAcreateserial"),
            OsStr::new("-extfile"),
            extensions.as_os_str(),
            OsStr::new("-out"),
            pair.certificate.as_os_str(),
        ]);
        pair
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn new_key<'a>() -> impl Iterator<Item = &'a OsStr> {
    ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"].into_iter().map(OsStr::new)
}

fn into<'a>(config: &'a Path, pair: &'a Pair) -> impl Iterator<Item = &'a OsStr> {
    [
        OsStr::new("-config"),
        config.as_os_str(),
        OsStr::new("-keyout"),
        pair.key.as_os_str(),
        OsStr::new("-out"),
        pair.certificate.as_os_str(),
    ]
    .into_iter()
}

fn openssl<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) {
    let output = Command::new("openssl").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}"));
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}

/// A TLS connection that trusts one certificate, perhaps with one of its own to show.
pub(crate) async fn connect(
    host: &str,
    address: SocketAddr,
    certificate: &str,
    identity: Option<&Pair>,
) -> TlsStream<TcpStream> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
    let certificate = certificate.unwrap_or_else(|error| panic!("no certificate: {error}"));
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap_or_else(|error| panic!("a certificate nobody can trust: {error}"));
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| panic!("TLS: {error}"))
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(pair) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.pem().as_bytes()).collect();
            let chain = chain.unwrap_or_else(|error| panic!("no certificate: {error}"));
            let key = PrivateKeyDer::from_pem_slice(pair.both().as_bytes());
            let key = key.unwrap_or_else(|error| panic!("no key: {error}"));
            config.with_client_auth_cert(chain, key).unwrap_or_else(|error| panic!("TLS: {error}"))
        }
    };
    let name = ServerName::try_from(host.to_owned()).unwrap_or_else(|error| panic!("{host}: {error}"));
    let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.unwrap_or_else(|error| panic!("TLS with {host} at {address}: {error}"))
}

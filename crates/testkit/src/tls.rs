//! Certificates and TLS connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::command::write;

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
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "3",
            ])
            .arg("-config")
            .arg(config)
            .arg("-keyout")
            .arg(&pair.key)
            .arg("-out")
            .arg(&pair.certificate)
            .output();
        let output = output.unwrap_or_else(|error| panic!("openssl: {error}"));
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        pair
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

/// A TLS connection that trusts one certificate.
pub(crate) async fn connect(host: &str, address: SocketAddr, certificate: &str) -> TlsStream<TcpStream> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
    let certificate = certificate.unwrap_or_else(|error| panic!("no certificate: {error}"));
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap_or_else(|error| panic!("a certificate nobody can trust: {error}"));
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| panic!("TLS: {error}"))
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap_or_else(|error| panic!("{host}: {error}"));
    let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.unwrap_or_else(|error| panic!("TLS with {host} at {address}: {error}"))
}

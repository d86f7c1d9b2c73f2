//! Files that TLS cannot be served with: a clear word at the start, and exit code 2.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{another, secured, service};

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_the_mend() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let [good, other] = ["good", "other"].map(|name| another(root, name));
    let encrypted = root.join("encrypted.key");
    let output = Command::new("openssl")
        .args(["pkey", "-aes256", "-passout", "pass:geheim", "-in"])
        .arg(&good.key)
        .arg("-out")
        .arg(&encrypted)
        .output();
    assert!(output.unwrap().status.success());
    let empty = root.join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let garbled = root.join("garbled.pem");
    std::fs::write(&garbled, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let missing = root.join("missing.pem");
    let cases: [(&Path, &Path, &Path, &[&str]); 8] = [
        (&good.certificate, &other.key, &other.key, &["tls_key", "is not the key of", "good/pair.crt"]),
        (&good.certificate, &encrypted, &encrypted, &["tls_key", "passphrase", "openssl pkey -in"]),
        (&missing, &good.key, &missing, &["tls_cert", "cannot be read", "No such file"]),
        (&good.certificate, &missing, &missing, &["tls_key", "cannot be read", "No such file"]),
        (&empty, &good.key, &empty, &["tls_cert", "has no certificate"]),
        (&good.key, &good.certificate, &good.key, &["tls_cert", "exchanged"]),
        (&garbled, &good.key, &garbled, &["tls_cert", "cannot be used"]),
        (&good.certificate, &empty, &empty, &["tls_key", "has no private key"]),
    ];
    for (certificate, key, named, words) in cases {
        let server = service()
            .env("TASKIQ_FLOW_TLS_CERT", certificate.display().to_string())
            .env("TASKIQ_FLOW_TLS_KEY", key.display().to_string());
        let exit = server.try_start().await.expect_err(words[1]);
        assert_eq!(exit.code, Some(2), "{}", exit.stderr);
        assert!(exit.stderr.contains(&named.display().to_string()), "{}", exit.stderr);
        for word in words {
            assert!(exit.stderr.contains(word), "{word}: {}", exit.stderr);
        }
    }
    let alone = service().env("TASKIQ_FLOW_WEBSOCKET_SSL_CERT", "a.pem").try_start().await.unwrap_err();
    assert_eq!(alone.code, Some(2));
    assert!(alone.stderr.contains("set without `tls_key`"), "{}", alone.stderr);
}

#[tokio::test]
async fn a_key_that_everybody_can_read_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, pair) = secured(directory.path());
    std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = builder.start().await;
    assert!(
        server.stderr().contains("can read") && server.stderr().contains("chmod o="),
        "{}",
        server.stderr()
    );
    let quiet = directory.path().join("quiet");
    std::fs::create_dir(&quiet).unwrap();
    let (builder, pair) = secured(&quiet);
    std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let server = builder.start().await;
    assert!(!server.stderr().contains("can read"), "{}", server.stderr());
}

//! Which versions and suites of TLS are spoken, by a client that would speak the others.

use std::process::{Command, Stdio};

use crate::support::secured;

/// What openssl says of a handshake with only these versions and suites.
async fn handshake(port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost"]);
    command.args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}"));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn only_tls_1_2_and_1_3_are_spoken_and_only_with_forward_secrecy() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, _) = secured(directory.path());
    let server = builder.start().await;
    for (arguments, version) in [
        (&["-tls1_3"][..], "TLSv1.3"),
        (&["-tls1_2", "-cipher", "ECDHE+AESGCM"], "TLSv1.2"),
        (&["-tls1_2", "-cipher", "ECDHE+CHACHA20"], "TLSv1.2"),
        (&[], "TLSv1.3"),
    ] {
        let said = handshake(server.port(), arguments).await;
        assert!(said.contains(&format!("New, {version}, Cipher is ")), "{arguments:?}: {said}");
    }
    // The alert is the server's: the client would have gone on.
    for arguments in [
        ["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        // The key is agreed on by the certificate's own: whoever gets that reads what was recorded.
        ["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "DHE:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "ECDHE+SHA1:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"],
    ] {
        let said = handshake(server.port(), &arguments).await;
        let refused =
            ["alert handshake failure", "alert protocol version"].iter().any(|alert| said.contains(alert));
        assert!(refused && said.contains("Cipher is (NONE)"), "{arguments:?}: {said}");
    }
}

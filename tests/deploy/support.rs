//! What the tests share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use taskiq_flow_testkit::{Client, Nginx, NginxSite, Pair, Server, ServerBuilder, free_port};
use tempfile::TempDir;

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");

/// The host that the guide's site is for.
pub(crate) const HOST: &str = "taskiq-flow.example.com";

/// The directory deploy/.
pub(crate) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// A file of deploy/.
pub(crate) fn text(name: &str) -> String {
    let path = deploy().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A server that requires HTTPS, with a key and a pipeline of three tasks in a row.
pub(crate) fn service() -> ServerBuilder {
    Server::builder(PROGRAM)
        .admin_key("k")
        .pipeline(
            "id: three\ntasks:\n  - { name: one, expression: \"1\", output: one }\n  - { name: two, expression: one + 1, \
             inputs: [one], output: two }\n  - { name: three, expression: two + 1, inputs: [two], output: three }\n",
        )
}

/// nginx with a site before the service.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) pair: Pair,
    _nginx: Nginx,
    pub(crate) service: Server,
    _directory: TempDir,
}

impl Front {
    /// Starts a site in which ports 80 and 443, the paths of the certificate and the service's address are replaced.
    pub(crate) async fn start(site: &str, service: Server) -> Self {
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let pair = Pair::self_signed(directory.path(), &[HOST]);
            let [http, https] =
                [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            let site = NginxSite::new(&here(site, &pair, http, https, service.port()));
            let checked = site.check().await;
            if checked.stderr.contains("Address already in use") {
                continue;
            }
            assert_eq!(checked.code, Some(0), "{}", checked.stderr);
            let nginx = site.start(&[http, https]).await;
            return Self { http, https, pair, _nginx: nginx, service, _directory: directory };
        }
        panic!("no free ports");
    }

    /// A client that comes to nginx over TLS.
    pub(crate) fn client(&self) -> Client {
        let base = format!("https://{HOST}:{}", self.https.port());
        Client::tls(base, HOST, self.https, &self.pair.pem()).key("k")
    }
}

/// The site with this test's ports, files and addresses.
pub(crate) fn here(site: &str, pair: &Pair, http: SocketAddr, https: SocketAddr, service: u16) -> String {
    let directory = format!("/etc/letsencrypt/live/{HOST}");
    let mut out = String::new();
    // IPv6 need not be there.
    for line in site.lines().filter(|line| !line.trim_start().starts_with("listen [::]")) {
        out.push_str(line);
        out.push('\n');
    }
    for (from, to) in [
        ("listen 80;", format!("listen {http};")),
        ("listen 443 ssl http2;", format!("listen {https} ssl http2;")),
        (&format!("{directory}/fullchain.pem"), pair.certificate.display().to_string()),
        (&format!("{directory}/privkey.pem"), pair.key.display().to_string()),
    ] {
        assert!(out.contains(from), "the site has no {from}");
        out = out.replace(from, &to);
    }
    let addresses = ["server 127.0.0.1:8000;", "server taskiq-flow:8000;", "http://localhost:8000;"];
    assert!(addresses.iter().any(|address| out.contains(address)), "the site leads nowhere");
    out.replace(addresses[0], &format!("server 127.0.0.1:{service};"))
        .replace(addresses[1], &format!("server 127.0.0.1:{service};"))
        .replace(addresses[2], &format!("http://127.0.0.1:{service};"))
}

//! The real nginx.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::command::{directory, write};
use crate::process::{Exit, Process};
use crate::wait::until;

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/sbin/nginx";

/// A configuration for nginx: the `server` blocks of a site within everything else that it needs to run without
/// touching the system's files.
#[derive(Debug)]
pub struct NginxSite {
    directory: TempDir,
    config: PathBuf,
}

/// A running nginx. It is ended when this is dropped.
#[derive(Debug)]
pub struct Nginx {
    // Dropped first: the directory goes when nobody writes there any more.
    process: Process,
    site: NginxSite,
}

impl NginxSite {
    /// A site of these `server` blocks, or of anything else that may stand in `http { … }`.
    pub fn new(blocks: &str) -> Self {
        let directory = directory();
        let path = directory.path().display();
        // One process: it can be ended by its id without leaving workers behind.
        let config = format!(
            "daemon off;\nmaster_process off;\npid {path}/nginx.pid;\nerror_log {path}/error.log info;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\naccess_log {path}/access.log;\nclient_body_temp_path {path}/body;\nproxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi;\nuwsgi_temp_path {path}/uwsgi;\nscgi_temp_path {path}/scgi;\n\
             {blocks}\n}}\n"
        );
        let config = write(directory.path(), "nginx.conf", &config);
        Self { directory, config }
    }

    /// What `nginx -t` says.
    pub async fn check(&self) -> Exit {
        let mut command = self.command();
        command.arg("-t");
        let mut process = Process::spawn(command, "nginx-check", self.directory.path());
        match process.wait(Duration::from_secs(20)).await {
            Some(exit) => exit,
            None => panic!("nginx -t does not end"),
        }
    }

    /// Starts it, and waits until all `listeners` accept connections.
    ///
    /// # Panics
    /// When it ends or does not listen.
    pub async fn start(self, listeners: &[SocketAddr]) -> Nginx {
        let mut process = Process::spawn(self.command(), "nginx", self.directory.path());
        for listener in listeners {
            let up = until(Duration::from_secs(10), async || {
                if let Some(exit) = process.ended() {
                    panic!("nginx ended with {:?}: {}", exit.code, exit.stderr);
                }
                TcpStream::connect(listener).await.ok()
            });
            assert!(up.await.is_some(), "nginx does not listen on {listener}");
        }
        Nginx { site: self, process }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("-p").arg(self.directory.path()).arg("-c").arg(&self.config);
        command
    }
}

impl Nginx {
    /// Where its files are: `access.log`, `error.log`.
    pub fn dir(&self) -> &Path {
        self.site.directory.path()
    }

    /// What it has logged about errors.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.dir().join("error.log")).unwrap_or_default()
    }

    /// Ends it in order.
    pub async fn stop(mut self) -> Exit {
        self.process.stop(Signal::TERM, Duration::from_secs(5)).await
    }
}

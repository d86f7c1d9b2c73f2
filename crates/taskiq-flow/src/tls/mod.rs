//! TLS that ends in the server itself: its files, read at the start and again whenever they change.
//!
//! What is offered: TLS 1.2 and 1.3, forward-secret AEAD suites only, HTTP/2 and HTTP/1.1 by ALPN, no early data, no
//! renegotiation, no compression: what rustls is built for, with the cryptography of AWS-LC.

mod files;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use taskiq_flow_api::Tls;
use taskiq_flow_security::Guard;
use taskiq_flow_security::audit::Outcome;
use tokio::sync::Notify;

use self::files::Material;
pub use self::files::client_identity;
use crate::config::TlsClientAuth;

/// From how long before its end on a certificate is warned of.
const SOON: jiff::SignedDuration = jiff::SignedDuration::from_hours(24 * 30);

/// Where the server's certificate and key are, and who vouches for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that sign certificates of clients; none: no client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have one.
    pub client_auth: TlsClientAuth,
}

/// Why files cannot be served with. Each names the field, the file and the fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// It cannot be read.
    #[error("{field}: {} cannot be read: {source}", file.display())]
    Unreadable {
        /// The field of the configuration, or what else names the file.
        field: &'static str,
        /// The file it names.
        file: PathBuf,
        /// What stands against it.
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("{field}: {} {problem}", file.display())]
    Unusable {
        /// The field of the configuration, or what else names the file.
        field: &'static str,
        /// The file it names.
        file: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The new files could be used, but the change must be recorded and cannot be.
    #[error("the change of the certificate cannot be recorded in the audit log, and must be")]
    Unrecorded,
}

/// The TLS of a running server. Clones are the same.
#[derive(Debug, Clone)]
pub struct TlsReloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tls: Tls,
    guard: Guard,
    /// What is served with, or was last tried.
    now: Mutex<Now>,
    /// Told when the names of the files change.
    renamed: Notify,
}

#[derive(Debug)]
struct Now {
    files: TlsFiles,
    /// Of what was last read, good or bad: nothing is tried twice without a reason.
    tried: Option<[u8; 32]>,
    /// Of the authorities in force.
    clients: [u8; 32],
    /// How often reading was begun, and which of these was heard last: a file system can be slow, and what was read
    /// later must not give way to what it holds back, such as an authority that was taken away meanwhile.
    begun: u64,
    heard: u64,
}

/// Why files are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Somebody asked.
    Asked,
    /// Something happened near them.
    Changed,
}

impl TlsReloader {
    /// Reads the files for the first time. What should not be left so is logged.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) async fn open(files: TlsFiles, guard: Guard) -> Result<Self, TlsError> {
        let material = read(files.clone()).await?;
        material.announce();
        let now = Now { files, tried: Some(material.digest), clients: material.clients, begun: 0, heard: 0 };
        let tls = Tls::new(material.config);
        Ok(Self(Arc::new(Inner { tls, guard, now: Mutex::new(now), renamed: Notify::new() })))
    }

    pub(crate) fn tls(&self) -> Tls {
        self.0.tls.clone()
    }

    /// Reads the files again, perhaps from other places than before, and serves with them from the next handshake on.
    /// The change is recorded. Where they cannot be used, those in force stay: that is logged and recorded too.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn reload(&self, files: TlsFiles) -> Result<(), TlsError> {
        let renamed = {
            let mut now = self.0.now.lock();
            let renamed = now.files != files;
            now.files = files;
            renamed
        };
        if renamed {
            self.0.renamed.notify_one();
        }
        self.refresh(Reason::Asked).await
    }

    /// Reads the files again each time that something happens to them. Never ends.
    pub(crate) async fn watch(&self) {
        watch::watch(self).await;
    }

    fn files(&self) -> TlsFiles {
        self.0.now.lock().files.clone()
    }

    /// Reads the files. What somebody began to read later and knows already is not gone back on.
    async fn refresh(&self, reason: Reason) -> Result<(), TlsError> {
        let (files, turn) = {
            let mut now = self.0.now.lock();
            now.begun += 1;
            (now.files.clone(), now.begun)
        };
        let read = read(files.clone()).await;
        let mut now = self.0.now.lock();
        if turn < now.heard {
            return Ok(());
        }
        now.heard = turn;
        match read {
            Ok(material) => self.put_in_force(now, &files, material, reason),
            Err(error) => {
                let tried = error.digest();
                let known = std::mem::replace(&mut now.tried, tried) == tried;
                drop(now);
                if reason == Reason::Asked || !known {
                    self.complain(&error);
                }
                Err(error)
            }
        }
    }

    fn put_in_force(
        &self,
        mut now: MutexGuard<'_, Now>,
        files: &TlsFiles,
        material: Material,
        reason: Reason,
    ) -> Result<(), TlsError> {
        if reason == Reason::Changed && now.tried == Some(material.digest) {
            return Ok(());
        }
        let detail = format!(
            "the certificate of {} is in force, valid until {}",
            files.certificate.display(),
            material.not_after
        );
        if self.0.guard.record_config_change("tls", Outcome::Success, &detail).is_err() {
            drop(now);
            self.complain(&TlsError::Unrecorded);
            return Err(TlsError::Unrecorded);
        }
        let same_clients = now.clients == material.clients;
        now.tried = Some(material.digest);
        now.clients = material.clients;
        material.announce();
        self.0.tls.replace(material.config, same_clients);
        drop(now);
        if !same_clients {
            self.0.guard.recheck();
        }
        metrics::counter!("taskiq_flow_tls_reloads_total", "outcome" => "success").increment(1);
        tracing::info!("{detail}");
        Ok(())
    }

    fn complain(&self, error: &TlsError) {
        metrics::counter!("taskiq_flow_tls_reloads_total", "outcome" => "failure").increment(1);
        tracing::error!(%error, "the certificate was NOT changed: the one in force goes on");
        let detail = format!("the certificate was not changed: {error}");
        // If that cannot be recorded either, the guard has logged it.
        let _ = self.0.guard.record_config_change("tls", Outcome::Failure, &detail);
    }
}

impl Material {
    /// Shows when the certificate ends, and says what should not be left so.
    fn announce(&self) {
        let gauge = metrics::gauge!("taskiq_flow_tls_certificate_expiry_timestamp_seconds");
        gauge.set(self.not_after.as_second() as f64);
        let left = self.not_after.duration_since(Timestamp::now());
        if left.is_negative() {
            tracing::error!(not_after = %self.not_after, "tls_cert: the certificate has EXPIRED; clients will not connect: renew it");
        } else if left < SOON {
            let days = left.as_hours() / 24;
            tracing::warn!(not_after = %self.not_after, days, "tls_cert: the certificate expires soon: renew it");
        }
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// Files are small and near, but a file system can hang.
async fn read(files: TlsFiles) -> Result<Material, TlsError> {
    let (field, file) = ("tls_cert", files.certificate.clone());
    match tokio::task::spawn_blocking(move || files::read(&files)).await {
        Ok(read) => read,
        Err(error) => Err(TlsError::Unreadable { field, file, source: io::Error::other(error) }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use taskiq_flow_security::SecurityOptions;
    use taskiq_flow_security::audit::{AuditLogger, AuditOptions};
    use taskiq_flow_security::rate_limit::{RateLimiter, RateLimiterOptions};
    use taskiq_flow_testkit::Pair;

    use super::*;

    fn pair(folder: &Path, name: &str) -> TlsFiles {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let pair = Pair::self_signed(&folder, &[]);
        TlsFiles {
            certificate: pair.certificate,
            key: pair.key,
            client_ca: None,
            client_auth: TlsClientAuth::Required,
        }
    }

    #[tokio::test]
    async fn what_was_asked_for_last_holds_whatever_is_read_first() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| pair(folder.path(), name));
        let settings = SecurityOptions::default().build().unwrap();
        let audit = AuditLogger::open(AuditOptions { sinks: vec![], ..AuditOptions::default() }).unwrap();
        let guard = Guard::new(settings, RateLimiter::new(RateLimiterOptions::default()), audit);
        let reloader = TlsReloader::open(first.clone(), guard).await.unwrap();

        // A file system that takes its time.
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let slow = TlsFiles { certificate: pipe.clone(), ..first.clone() };
        let earlier = tokio::spawn({
            let reloader = reloader.clone();
            async move { reloader.reload(slow).await }
        });
        // Opened once somebody reads.
        let opened =
            tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(pipe).unwrap());
        let mut writer = opened.await.unwrap();
        reloader.reload(second.clone()).await.unwrap();
        writer.write_all(&std::fs::read(&first.certificate).unwrap()).unwrap();
        drop(writer);
        earlier.await.unwrap().unwrap();

        let last = files::read(&second).unwrap();
        assert_eq!(reloader.0.now.lock().tried, Some(last.digest));
    }
}

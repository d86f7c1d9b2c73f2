//! Measurements, in the format of Prometheus.

use std::time::Duration;

use parking_lot::Mutex;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// How often old samples of histograms are folded together; without it memory would grow while nobody reads.
const UPKEEP_EVERY: Duration = Duration::from_secs(30);

/// Bounds of the buckets for durations, in seconds: from one that nobody notices to the longest wait of an execution.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// What the first server of this process installed: a process has one recorder, and may have several servers.
static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);

/// The measurements of this process. Clones are the same.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Why measurements cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("measurements cannot be taken: {0}")]
pub struct MetricsError(#[from] BuildError);

impl Metrics {
    /// Takes the measurements of this process from now on; a second call gives the same. Within a tokio runtime.
    ///
    /// # Errors
    /// When somebody else takes them already.
    pub fn install() -> Result<Self, MetricsError> {
        let mut installed = INSTALLED.lock();
        if let Some(metrics) = &*installed {
            return Ok(metrics.clone());
        }
        let matcher = Matcher::Suffix("_seconds".to_owned());
        let handle =
            PrometheusBuilder::new().set_buckets_for_metric(matcher, &SECONDS)?.install_recorder()?;
        let upkeep = handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_EVERY).await;
                upkeep.run_upkeep();
            }
        });
        metrics::describe_counter!(
            "taskiq_flow_http_requests_total",
            "Answers, by endpoint, method and status"
        );
        metrics::describe_histogram!(
            "taskiq_flow_http_request_duration_seconds",
            "Time to an answer, by endpoint"
        );
        metrics::describe_histogram!(
            "taskiq_flow_revocation_close_seconds",
            "Time from a change of keys, access lists or settings to the close of a stream that it un-authorises, by transport"
        );
        metrics::describe_gauge!("taskiq_flow_open_streams", "Open WebSockets and event streams");
        let metrics = Self(handle);
        *installed = Some(metrics.clone());
        Ok(metrics)
    }

    /// All of them as text.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

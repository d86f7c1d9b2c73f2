//! The audit log: who did what, in a chain that shows when it was touched.
//!
//! ```
//! use taskiq_flow_security::audit::{
//!     AuditEntry, AuditEvent, AuditLogger, AuditMode, AuditOptions, AuditSink, Outcome, verify,
//! };
//!
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("audit.jsonl");
//! let log = AuditLogger::open(AuditOptions {
//!     sinks: vec![AuditSink::File(path.clone())],
//!     mode: AuditMode::Required,
//!     ..AuditOptions::default()
//! })?;
//! log.record(AuditEntry::new(AuditEvent::PipelineExecute, Outcome::Success).pipeline_id("etl").status(202))?;
//! log.close();
//!
//! let report = verify(std::io::BufReader::new(std::fs::File::open(&path)?))?;
//! assert_eq!(report.records, 3); // audit.start, pipeline.execute, audit.stop
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rules. One JSON object a line, its fields in one order, `hash` the last: the SHA-256 of the line without
//! that member, in hexadecimal. `prev_hash` is the hash of the record before, 64 zeros for the first. What
//! could not be written is never silent: an `audit.gap` record says which numbers are missing from which sink.
//! A file that was moved, emptied or torn goes on with such a record too.
//!
//! Caveats. The chain has no key: whoever may write the file can rewrite all of it, and cut its end. Signed
//! checkpoints ([`CheckpointOptions`]) that are kept on another machine show both: [`verify_all`] compares the log
//! with a [`SignedSeries`] of them.

mod back_lines;
mod chain;
mod deliver;
mod entry;
mod error;
mod event;
mod export;
mod flood;
mod follower;
mod gap;
mod intake;
mod lane;
mod ledger;
mod line;
mod logger;
pub mod merkle;
mod notary;
mod progress;
mod proof;
mod queue;
mod reader;
mod record;
mod safe_json;
mod series;
mod signed;
mod sink;
mod tell;
mod verify;

pub use self::chain::{Checkpoint, CheckpointError};
pub use self::deliver::{CheckpointTarget, TargetError, TargetStatus};
pub use self::entry::{AuditEntry, AuditRequest, AuditSubject, RequestNames, SubjectNames};
pub use self::error::AuditError;
pub use self::event::{AuditEvent, Outcome, UnknownEvent};
pub use self::export::{ExportFormat, UnknownFormat};
pub use self::flood::{FloodLimit, FloodLimitError};
pub use self::logger::{AuditLogger, AuditMode, AuditOptions};
pub use self::notary::{CheckpointOptions, CheckpointStatus};
pub use self::proof::{Base64Hash, Leaves, Proof, ProofError, Tree};
pub use self::reader::{AuditFilter, AuditPage, ReadError, read_records};
pub use self::record::{AuditPrincipal, AuditRecord, LOGGER};
pub use self::safe_json::{escape_controls, to_safe_json};
pub use self::series::{KeyRange, SeriesError, SeriesFault, SignedSeries};
pub use self::signed::{KeyError, SignedCheckpoint, SignedCheckpointError, SigningKey, VerifyKey, is_origin};
pub use self::sink::AuditSink;
pub use self::verify::{
    Fault, GAPS_KEPT, Gap, SignedReport, VerifyError, VerifyOptions, VerifyReport, verify, verify_all,
    verify_with,
};

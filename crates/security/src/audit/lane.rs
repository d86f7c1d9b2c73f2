//! One sink as the log sees it: written directly, or through a queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chain::{Checkpoint, Line, joined};
use super::error::AuditError;
use super::progress::Progress;
use super::queue::Queue;
use super::sink::{AuditSink, Displaced, Tail, Writer};

/// A direct sink that failed is not tried again before this.
const REST: Duration = Duration::from_millis(100);

pub(crate) struct Lane {
    pub(crate) label: String,
    /// Whether a record that is there is written: not when the sink is a copy in the words of others.
    counts: bool,
    kind: Kind,
}

enum Kind {
    Direct(Direct),
    Queued(Queue),
}

struct Direct {
    writer: Writer,
    written: Checkpoint,
    state: DirectState,
    /// Who wants to know how far it is written.
    progress: Option<Arc<Progress>>,
}

enum DirectState {
    InStep,
    Behind(Tail),
    Closed { again_at: Instant },
}

impl Lane {
    /// A sink that is written before the caller goes on. `tail`: how it ends, if it could be opened.
    pub(crate) fn direct(
        sink: &AuditSink,
        writer: Writer,
        tail: Option<Tail>,
        head: Checkpoint,
        progress: Option<Arc<Progress>>,
    ) -> Self {
        let state = match tail {
            Some(tail) if tail == Tail::clean(head) => DirectState::InStep,
            Some(tail) => DirectState::Behind(tail),
            None => DirectState::Closed { again_at: Instant::now() + REST },
        };
        let written = tail.map_or(Checkpoint::GENESIS, |t| t.at);
        Self {
            label: sink.label(),
            counts: counts(sink),
            kind: Kind::Direct(Direct { writer, written, state, progress }),
        }
    }

    /// A sink that is written by a thread of its own.
    pub(crate) fn queued(
        sink: &AuditSink,
        writer: Writer,
        tail: Option<Tail>,
        head: Checkpoint,
        progress: Option<Arc<Progress>>,
    ) -> Result<Self, AuditError> {
        let in_step = tail == Some(Tail::clean(head));
        let queue =
            Queue::start(writer, sink.label(), tail, in_step, progress).map_err(AuditError::Thread)?;
        Ok(Self { label: sink.label(), counts: counts(sink), kind: Kind::Queued(queue) })
    }

    /// How the sink ends, if it could go on but not where the chain stands. To be asked before each record.
    pub(crate) fn out_of_step(&mut self, head: Checkpoint) -> Option<Tail> {
        match &mut self.kind {
            Kind::Queued(queue) => queue.out_of_step(),
            Kind::Direct(direct) => direct.out_of_step(head),
        }
    }

    /// Hands lines over, all or none; `after_gap`: the first is the gap record a sink out of step waits for.
    /// Whether they were taken: by a direct sink, written; by a queue, accepted.
    pub(crate) fn offer(&mut self, lines: &[Arc<Line>], after_gap: bool) -> bool {
        match &mut self.kind {
            Kind::Queued(queue) => queue.offer(lines, after_gap),
            Kind::Direct(direct) => direct.offer(&self.label, lines, after_gap),
        }
    }

    /// Whether a record that the sink took counts as written.
    pub(crate) fn counts(&self) -> bool {
        self.counts
    }

    pub(crate) fn failing(&self) -> bool {
        match &self.kind {
            Kind::Queued(queue) => queue.failing(),
            Kind::Direct(direct) => matches!(direct.state, DirectState::Closed { .. }),
        }
    }

    pub(crate) fn close(&mut self) {
        match &mut self.kind {
            Kind::Queued(queue) => queue.close(),
            Kind::Direct(direct) => {
                direct.writer.sync();
                direct.state = DirectState::Closed { again_at: Instant::now() };
                // Dropping the file lets go of its lock.
                direct.writer = Writer::new(AuditSink::Stdout);
            }
        }
    }
}

fn counts(sink: &AuditSink) -> bool {
    !matches!(sink, AuditSink::Export(..))
}

impl Direct {
    fn out_of_step(&mut self, head: Checkpoint) -> Option<Tail> {
        match self.state {
            DirectState::Behind(tail) => Some(tail),
            DirectState::InStep if self.writer.displaced() == Displaced::No => None,
            DirectState::Closed { again_at } if Instant::now() < again_at => None,
            DirectState::InStep | DirectState::Closed { .. } => match self.reopen() {
                Ok(tail) if tail == Tail::clean(head) => {
                    self.state = DirectState::InStep;
                    None
                }
                Ok(tail) => {
                    self.state = DirectState::Behind(tail);
                    Some(tail)
                }
                Err(_) => {
                    self.state = DirectState::Closed { again_at: Instant::now() + REST };
                    None
                }
            },
        }
    }

    fn reopen(&mut self) -> Result<Tail, AuditError> {
        let opened = self.writer.open(self.written);
        if let Some(progress) = &self.progress {
            progress.moved();
        }
        opened
    }

    fn offer(&mut self, label: &str, lines: &[Arc<Line>], after_gap: bool) -> bool {
        let ready = match self.state {
            DirectState::InStep => true,
            DirectState::Behind(_) => after_gap,
            DirectState::Closed { .. } => false,
        };
        if !ready {
            return false;
        }
        let result = match lines {
            [line] => self.writer.write(&line.bytes),
            lines => self.writer.write(&joined(lines)),
        };
        match result {
            Ok(()) => {
                self.written = lines.last().map_or(self.written, |line| line.at);
                self.state = DirectState::InStep;
                if let Some(progress) = &self.progress {
                    progress.wrote(self.written);
                }
                true
            }
            Err(error) => {
                metrics::counter!("taskiq_flow_audit_sink_errors_total").increment(1);
                tracing::error!(sink = %label, %error, "the audit log cannot be written");
                self.state = DirectState::Closed { again_at: Instant::now() + REST };
                false
            }
        }
    }
}

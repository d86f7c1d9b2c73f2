//! A sink that is written by a thread of its own, so that a request never waits for it.
//!
//! Lines are taken in order and written in groups. A sink that fails is opened again with growing pauses; the
//! lines wait meanwhile, up to a bound. When the bound is reached, or the sink comes back with another end than
//! it had, the queue takes no more lines until the log has written a gap record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::chain::{Checkpoint, Line, joined};
use super::error::AuditError;
use super::progress::Progress;
use super::sink::{Displaced, Tail, Writer};

const MAX_LINES: usize = 16_384;
const MAX_BYTES: usize = 16 * 1024 * 1024;
const GROUP_LINES: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long closing waits for a sink to take what is left.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

pub(crate) struct Queue {
    shared: Arc<Shared>,
    label: String,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    /// The last record that was taken in.
    holds: Checkpoint,
    intake: Intake,
    failing: bool,
    close_by: Option<Instant>,
    done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Intake {
    Open,
    /// The bound was reached.
    Full,
    /// The thread is looking for the sink's end.
    Lost,
    /// The sink ends thus; a gap record must come first.
    Back(Tail),
}

impl Queue {
    /// Starts the thread. `tail`: how the sink ends if it is open already; `in_step`: that is where the chain
    /// stands.
    pub(crate) fn start(
        writer: Writer,
        label: String,
        tail: Option<Tail>,
        in_step: bool,
        progress: Option<Arc<Progress>>,
    ) -> std::io::Result<Self> {
        let intake = match tail {
            Some(_) if in_step => Intake::Open,
            Some(tail) => Intake::Back(tail),
            None => Intake::Lost,
        };
        let written = tail.map_or(Checkpoint::GENESIS, |t| t.at);
        let state = State {
            lines: VecDeque::new(),
            bytes: 0,
            holds: written,
            intake,
            failing: tail.is_none(),
            close_by: None,
            done: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let worker = Worker {
            shared: Arc::clone(&shared),
            writer,
            written,
            pause: FIRST_PAUSE,
            label: label.clone(),
            progress,
        };
        thread::Builder::new().name("audit-sink".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, label })
    }

    /// Whether the queue takes lines, or would after a gap record.
    pub(crate) fn out_of_step(&self) -> Option<Tail> {
        let mut state = self.shared.state.lock();
        match state.intake {
            Intake::Open if state.lines.len() >= MAX_LINES || state.bytes >= MAX_BYTES => {
                state.intake = Intake::Full;
                None
            }
            Intake::Full if state.lines.len() < MAX_LINES / 2 && state.bytes < MAX_BYTES / 2 => {
                Some(Tail::clean(state.holds))
            }
            Intake::Back(tail) => Some(tail),
            Intake::Open | Intake::Full | Intake::Lost => None,
        }
    }

    /// Takes lines, if the queue is in step (or `after_gap`: the first says what is missing).
    pub(crate) fn offer(&self, lines: &[Arc<Line>], after_gap: bool) -> bool {
        let mut state = self.shared.state.lock();
        if after_gap && !matches!(state.intake, Intake::Lost) {
            state.intake = Intake::Open;
        }
        if state.intake != Intake::Open || state.done {
            return false;
        }
        for line in lines {
            state.bytes += line.bytes.len();
            state.holds = line.at;
            state.lines.push_back(Arc::clone(line));
        }
        self.shared.changed.notify_all();
        true
    }

    pub(crate) fn failing(&self) -> bool {
        let state = self.shared.state.lock();
        state.failing || state.intake == Intake::Full || state.done
    }

    /// Lets the thread write what is left and end. Waits for it two seconds at most.
    pub(crate) fn close(&self) {
        let by = Instant::now() + CLOSE_WITHIN;
        let mut state = self.shared.state.lock();
        state.close_by = Some(by);
        self.shared.changed.notify_all();
        self.shared.changed.wait_while_until(&mut state, |state| !state.done, by);
        if !state.lines.is_empty() {
            tracing::error!(sink = %self.label, records = state.lines.len(), "audit records were not written before the end");
        }
    }
}

impl State {
    fn forget(&mut self, lines: usize) {
        for line in self.lines.drain(..lines) {
            self.bytes -= line.bytes.len();
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    writer: Writer,
    written: Checkpoint,
    pause: Duration,
    label: String,
    /// Who wants to know how far it is written.
    progress: Option<Arc<Progress>>,
}

impl Worker {
    fn run(mut self) {
        while let Some(group) = self.next_group() {
            match self.writer.displaced() {
                Displaced::No => self.write(&group),
                // The old file still takes what was meant for it.
                Displaced::Moved => self.leave_moved_file(),
                Displaced::Shortened => self.reopen(),
            }
        }
        self.writer.sync();
        // Lets go of the file's lock before anybody is told.
        drop(self.writer);
        self.shared.state.lock().done = true;
        self.shared.changed.notify_all();
    }

    /// The next lines to write; `None` at the end.
    fn next_group(&mut self) -> Option<Vec<Arc<Line>>> {
        loop {
            if !self.writer.is_open() {
                self.wait_and_reopen()?;
                continue;
            }
            let mut state = self.shared.state.lock();
            if state.close_by.is_some_and(|by| state.lines.is_empty() || by <= Instant::now()) {
                return None;
            }
            if state.lines.is_empty() {
                self.shared.changed.wait(&mut state);
                continue;
            }
            return Some(state.lines.iter().take(GROUP_LINES).cloned().collect());
        }
    }

    fn write(&mut self, group: &[Arc<Line>]) {
        let result = self.writer.write(&joined(group));
        let mut state = self.shared.state.lock();
        match result {
            Ok(()) => {
                state.forget(group.len());
                if state.failing {
                    tracing::info!(sink = %self.label, "the audit log is written again");
                }
                state.failing = false;
                self.pause = FIRST_PAUSE;
                self.written = group.last().map_or(self.written, |l| l.at);
                self.tell();
            }
            Err(error) => {
                self.note_failure(&mut state, &error);
                drop(state);
                if self.writer.is_open() {
                    // Standard output stays open; only the pause is wanted.
                    self.rest();
                }
            }
        }
    }

    /// Gives the file that was moved all that waits, and goes on with the one at the path. The step between
    /// them is taken under the lock: no line comes too late for one and too early for the other.
    fn leave_moved_file(&mut self) {
        let left: Vec<_> = self.shared.state.lock().lines.iter().cloned().collect();
        self.write(&left);
        if !self.writer.is_open() {
            return;
        }
        self.writer.sync();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        // More came meanwhile: the next group leads here again.
        if state.lines.is_empty() {
            state.intake = Intake::Lost;
            let opened = self.writer.open(self.written);
            self.settle(&mut state, opened);
            if self.writer.is_export() && matches!(state.intake, Intake::Back(_)) {
                // Nothing in the new file depends on the one before, and nothing was missed between them.
                state.intake = Intake::Open;
            }
            drop(state);
            if let Some(progress) = &self.progress {
                progress.moved();
            }
        }
    }

    fn wait_and_reopen(&mut self) -> Option<()> {
        let closing =
            |state: &State| state.close_by.is_some_and(|by| by <= Instant::now() || state.lines.is_empty());
        if closing(&self.shared.state.lock()) {
            return None;
        }
        if self.shared.state.lock().failing {
            self.rest();
        }
        self.reopen();
        Some(())
    }

    fn reopen(&mut self) {
        let opened = self.writer.open(self.written);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        self.settle(&mut state, opened);
    }

    /// Finds out whether the waiting lines follow on the sink's end.
    fn settle(&mut self, state: &mut State, opened: Result<Tail, AuditError>) {
        let tail = match opened {
            Ok(tail) => tail,
            Err(error) => {
                self.note_failure(state, &error);
                return;
            }
        };
        // A failed write may have left whole lines behind.
        let reached = state.lines.iter().position(|l| l.at == tail.at);
        let follows = tail.at == self.written || reached.is_some();
        self.written = tail.at;
        if follows {
            self.tell();
        }
        if follows && tail.unreadable_lines == 0 && state.intake != Intake::Lost {
            state.forget(reached.map_or(0, |at| at + 1));
        } else {
            let lost = state.lines.len();
            state.forget(lost);
            state.intake = Intake::Back(tail);
            state.failing = false;
        }
    }

    fn tell(&self) {
        if let Some(progress) = &self.progress {
            progress.wrote(self.written);
        }
    }

    fn rest(&mut self) {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let mut state = self.shared.state.lock();
        while !self.shared.changed.wait_until(&mut state, until).timed_out() {
            if state.close_by.is_some() {
                // The last tries come quickly.
                self.pause = FIRST_PAUSE;
                break;
            }
        }
    }

    fn note_failure(&self, state: &mut State, error: &dyn std::fmt::Display) {
        metrics::counter!("taskiq_flow_audit_sink_errors_total").increment(1);
        if !state.failing {
            tracing::error!(sink = %self.label, %error, "the audit log cannot be written; it will be tried again");
        }
        state.failing = true;
    }
}

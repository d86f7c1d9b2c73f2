//! Waiting for the end of a run.

use std::sync::Weak;
use std::time::Duration;

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::RunView;
use tokio::sync::oneshot;

use crate::error::ControlError;
use crate::handle::{Engine, Inner};
use crate::inbox::{Message, Shown};

/// First and longest pause before looking again at a run that this engine does not drive.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// The end of a run that was asked for. It does not keep the engine alive, and the run goes on without it.
#[derive(Debug)]
pub struct Ending {
    engine: Weak<Inner>,
    run_id: RunId,
    /// None: it is told already, or by somebody else.
    told: Option<oneshot::Receiver<Shown>>,
}

impl Ending {
    pub(crate) fn new(engine: Weak<Inner>, run_id: RunId, told: Option<oneshot::Receiver<Shown>>) -> Self {
        Self { engine, run_id, told }
    }

    /// Waits for it, at most `timeout`. None: the run has not ended by then; it can be waited for again.
    ///
    /// # Errors
    /// As [`Engine::wait`].
    pub async fn wait(&mut self, timeout: Duration) -> Result<Option<RunView>, ControlError> {
        tokio::time::timeout(timeout, self.come()).await.map_or(Ok(None), |ended| ended.map(Some))
    }

    pub(crate) async fn come(&mut self) -> Result<RunView, ControlError> {
        if let Some(told) = &mut self.told {
            let view = told.await;
            self.told = None;
            if let Ok(Some(view)) = view {
                return Ok(*view);
            }
        }
        // It was asked for before, and has another driver or has ended; or its driver has stopped.
        ended(Weak::clone(&self.engine), self.run_id).await
    }
}

/// Waits for a run to end, without keeping the engine alive meanwhile.
pub(crate) async fn ended(engine: Weak<Inner>, run_id: RunId) -> Result<RunView, ControlError> {
    let upgrade = || engine.upgrade().map(Engine).ok_or(ControlError::ShuttingDown);
    let mut pause = LOOK_AGAIN.0;
    loop {
        let (reply, answer) = oneshot::channel();
        let asked = upgrade()?.send(run_id, Message::Wait { run_id, reply }).await;
        asked.map_err(|()| ControlError::ShuttingDown)?;
        if let Some(view) = answer.await.map_err(|_| ControlError::ShuttingDown)? {
            return Ok(*view);
        }
        let view = upgrade()?.run(run_id).await?;
        if view.status.is_terminal() {
            return Ok(view);
        }
        // Nobody here drives it: another process does, or this one has not taken it up yet.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN.1);
    }
}

//! Letting others go first, so that one turn takes what several would.
//!
//! Whoever sends to a shard that sleeps has it run next on the same thread, before others have sent what they were about
//! to. Where that has been seen to bring more, a shard goes to the end of its thread's queue first: the fewer turns, the
//! less a run costs. Where nobody else sends, it is not worth waking other threads for.

use std::future::poll_fn;
use std::task::Poll;

/// Turns for which a shard goes on waiting for others, since it was worth it.
const CREDIT: u8 = 16;
/// One in so many turns tries whether it is worth it.
const PROBE: u8 = 64;

/// Whether it has been worth it.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    credit: u8,
    turns: u8,
}

impl Gathering {
    /// Whether to let others go first this time.
    pub(super) fn is_worth_it(&mut self) -> bool {
        self.turns = (self.turns + 1) % PROBE;
        self.credit > 0 || self.turns == 0
    }

    /// Notes how many messages there were before others went, and after.
    pub(super) fn learn(&mut self, before: usize, after: usize) {
        self.credit = if after > before { CREDIT } else { self.credit.saturating_sub(1) };
    }
}

/// Goes to the end of the queue of this thread, from which other threads may still take it.
pub(super) async fn let_others_go_first() {
    let mut went = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut went, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_given_up_where_nobody_comes_and_tried_again_now_and_then() {
        let mut gathering = Gathering::default();
        let worth = |gathering: &mut Gathering| (0..PROBE).filter(|_| gathering.is_worth_it()).count();
        assert_eq!(worth(&mut gathering), 1);
        gathering.learn(1, 2);
        assert_eq!(worth(&mut gathering), usize::from(PROBE));
        (0..CREDIT).for_each(|_| gathering.learn(1, 1));
        assert_eq!(worth(&mut gathering), 1);
    }
}

//! What the machine has for attempts, and which of them go on: so many that what they say they take is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use taskiq_flow_core::definition::{Amount, CPU, MEMORY, Resources};
use tokio::sync::oneshot;

/// How often an attempt that does not fit may be overtaken by later ones that do. After that nothing is given away
/// before it has its own, so that small ones cannot keep a large one out for ever.
const MAX_OVERTAKEN: u32 = 64;

/// The machine's resources. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Machine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: BTreeMap<Arc<str>, Amount>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: BTreeMap<Arc<str>, Amount>,
    /// One line for each sort of need: whoever is behind in one cannot fit where its first does not.
    lines: Vec<Line>,
    next: u64,
}

#[derive(Debug)]
struct Line {
    needs: Resources,
    waiting: VecDeque<Waiting>,
    /// How often its first was overtaken.
    overtaken: u32,
}

#[derive(Debug)]
struct Waiting {
    /// The order in which they came, over all lines.
    number: u64,
    reply: oneshot::Sender<Taken>,
}

/// Who waits in a line. Whoever gives up may have kept those behind from what is free.
struct InLine<'a> {
    machine: &'a Machine,
    waiting: oneshot::Receiver<Taken>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if !self.waiting.is_terminated() {
            self.waiting.close();
            // What was given to it meanwhile is free again.
            drop(self.waiting.try_recv());
            self.machine.serve();
        }
    }
}

/// Resources that an attempt has. Dropped, they are free.
#[derive(Debug)]
pub(crate) struct Taken {
    machine: Machine,
    needs: Resources,
}

/// What this machine has: its processors and its memory.
pub(crate) fn this_machine() -> BTreeMap<Arc<str>, Amount> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = u64::try_from(cores).unwrap_or(u64::MAX).saturating_mul(1000);
    let info = rustix::system::sysinfo();
    let memory = u64::from(info.mem_unit).saturating_mul(info.totalram);
    BTreeMap::from([(Arc::from(CPU), Amount(cores)), (Arc::from(MEMORY), Amount(memory))])
}

impl Machine {
    /// A machine with these amounts.
    pub(crate) fn new(all: BTreeMap<Arc<str>, Amount>) -> Self {
        let state = State { free: all.clone(), lines: Vec::new(), next: 0 };
        Self(Arc::new(Shared { all, state: Mutex::new(state) }))
    }

    /// What stands against ever carrying out an attempt with these needs.
    pub(crate) fn lacks(&self, needs: &Resources) -> Option<String> {
        let lack = |(name, amount): (&Arc<str>, Amount)| match self.0.all.get(name) {
            None => Some(format!("the configuration's `resources` do not say how much `{name}` there is")),
            Some(all) if *all < amount => {
                let (wanted, all) = (amount.show(name), all.show(name));
                Some(format!("it takes {wanted} of `{name}`, and there is {all} in all"))
            }
            Some(_) => None,
        };
        needs.iter().find_map(lack)
    }

    /// Takes what an attempt needs as soon as it is free. Whoever gives up waiting has taken nothing. Of what the
    /// machine [lacks](Self::lacks) it takes all there is: the run may have been accepted by a larger one, and would wait
    /// for ever.
    pub(crate) async fn take(&self, needs: &Resources) -> Taken {
        let there = |(name, amount): (&Arc<str>, Amount)| {
            self.0.all.get(name).map(|all| (Arc::clone(name), amount.min(*all)))
        };
        let needs = Resources::from_amounts(needs.iter().filter_map(there));
        let waiting = {
            let mut state = self.0.state.lock();
            if needs.is_empty() || (state.lines.is_empty() && state.take(&needs)) {
                return Taken { machine: self.clone(), needs };
            }
            state.stand(&needs)
        };
        self.serve();
        let mut place = InLine { machine: self, waiting };
        // Nothing drops the other end but a line whose first has gone.
        let taken = (&mut place.waiting).await;
        taken.unwrap_or_else(|_| Taken { machine: self.clone(), needs: Resources::default() })
    }

    /// Gives what is free to those who wait.
    fn serve(&self) {
        loop {
            let granted = self.0.state.lock().next();
            let Some((needs, waiting)) = granted else { return };
            // One that does not wait any more gives it back at once, outside the lock.
            drop(waiting.reply.send(Taken { machine: self.clone(), needs }));
        }
    }
}

impl State {
    fn fits(&self, needs: &Resources) -> bool {
        needs.iter().all(|(name, amount)| self.free.get(name).is_some_and(|free| *free >= amount))
    }

    fn take(&mut self, needs: &Resources) -> bool {
        if !self.fits(needs) {
            return false;
        }
        for (name, amount) in needs.iter() {
            if let Some(free) = self.free.get_mut(name) {
                free.0 -= amount.0;
            }
        }
        true
    }

    fn stand(&mut self, needs: &Resources) -> oneshot::Receiver<Taken> {
        let (reply, waiting) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        let place = self.lines.iter().position(|line| line.needs == *needs).unwrap_or_else(|| {
            self.lines.push(Line { needs: needs.clone(), waiting: VecDeque::new(), overtaken: 0 });
            self.lines.len() - 1
        });
        self.lines[place].waiting.push_back(Waiting { number, reply });
        waiting
    }

    /// Takes for the first that fits, in the order in which they came, unless one before it was overtaken too often.
    fn next(&mut self) -> Option<(Resources, Waiting)> {
        for line in &mut self.lines {
            while line.waiting.front().is_some_and(|first| first.reply.is_closed()) {
                line.waiting.pop_front();
                line.overtaken = 0;
            }
        }
        self.lines.retain(|line| !line.waiting.is_empty());
        self.lines.sort_unstable_by_key(|line| line.waiting.front().map(|first| first.number));
        let place = (0..self.lines.len()).find(|place| {
            let line = &self.lines[*place];
            self.fits(&line.needs) || line.overtaken >= MAX_OVERTAKEN
        })?;
        let needs = self.lines[place].needs.clone();
        if !self.take(&needs) {
            return None;
        }
        for line in &mut self.lines[..place] {
            line.overtaken += 1;
        }
        self.lines[place].overtaken = 0;
        let waiting = self.lines[place].waiting.pop_front()?;
        Some((needs, waiting))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.needs.is_empty() {
            return;
        }
        {
            let mut state = self.machine.0.state.lock();
            for (name, amount) in self.needs.iter() {
                if let Some(free) = state.free.get_mut(name) {
                    free.0 += amount.0;
                }
            }
        }
        self.machine.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn needs(amounts: &[(&str, u64)]) -> Resources {
        Resources::from_amounts(amounts.iter().map(|(name, amount)| (Arc::from(*name), Amount(*amount))))
    }

    fn machine() -> Machine {
        Machine::new(BTreeMap::from([(Arc::from(CPU), Amount(4000)), (Arc::from(MEMORY), Amount(1000))]))
    }

    #[test]
    fn what_fits_goes_on_and_what_is_dropped_is_free() {
        let machine = machine();
        let whole = machine.take(&needs(&[(CPU, 4000)])).now_or_never().unwrap();
        let memory = machine.take(&needs(&[(MEMORY, 1000)])).now_or_never().unwrap();
        let both = needs(&[(CPU, 1), (MEMORY, 1)]);
        let mut waiting = Box::pin(machine.take(&both));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(whole);
        assert!(waiting.as_mut().now_or_never().is_none(), "memory is still taken");
        drop(memory);
        let both = waiting.now_or_never().unwrap();
        assert!(machine.take(&needs(&[(CPU, 4000)])).now_or_never().is_none());
        drop(both);
        assert!(machine.take(&needs(&[(CPU, 4000)])).now_or_never().is_some());
    }

    #[test]
    fn one_that_gives_up_waiting_takes_nothing() {
        let machine = machine();
        let first = machine.take(&needs(&[(CPU, 4000)])).now_or_never().unwrap();
        let all = needs(&[(CPU, 4000)]);
        let mut gone = Box::pin(machine.take(&all));
        let mut next = Box::pin(machine.take(&all));
        assert!(gone.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        drop(first);
        // It was given its part, and goes without having looked.
        drop(gone);
        assert!(next.now_or_never().is_some());
    }

    #[test]
    fn a_large_one_is_overtaken_only_so_often() {
        let machine = machine();
        let small = needs(&[(CPU, 1000)]);
        let mut held = machine.take(&small).now_or_never().unwrap();
        let all = needs(&[(CPU, 4000)]);
        let mut large = Box::pin(machine.take(&all));
        assert!(large.as_mut().now_or_never().is_none());
        let mut overtaken = 0;
        while let Some(next) = machine.take(&small).now_or_never() {
            overtaken += 1;
            held = next;
        }
        assert_eq!(overtaken, MAX_OVERTAKEN);
        drop(held);
        assert!(large.now_or_never().is_some());
    }

    #[test]
    fn who_gives_up_holds_nobody_up() {
        let machine = machine();
        let small = needs(&[(CPU, 1000)]);
        let _held = machine.take(&small).now_or_never().unwrap();
        let all = needs(&[(CPU, 4000)]);
        let mut large = Box::pin(machine.take(&all));
        assert!(large.as_mut().now_or_never().is_none());
        for _ in 0..MAX_OVERTAKEN {
            assert!(machine.take(&small).now_or_never().is_some());
        }
        let mut behind = Box::pin(machine.take(&small));
        assert!(behind.as_mut().now_or_never().is_none(), "the large one is not overtaken once more");
        drop(large);
        assert!(behind.now_or_never().is_some());
    }

    #[test]
    fn what_there_is_not_is_named_and_does_not_hold_up_what_was_accepted() {
        let machine = machine();
        assert_eq!(machine.lacks(&needs(&[(CPU, 4000)])), None);
        let lacks = |amounts: &[(&str, u64)]| machine.lacks(&needs(amounts)).unwrap();
        assert_eq!(lacks(&[(CPU, 4500)]), "it takes 4.5 of `cpu`, and there is 4 in all");
        assert_eq!(
            lacks(&[("gpu", 1)]),
            "the configuration's `resources` do not say how much `gpu` there is"
        );
        let taken = machine.take(&needs(&[(CPU, 9000), ("gpu", 1)])).now_or_never().unwrap();
        assert!(machine.take(&needs(&[(CPU, 1)])).now_or_never().is_none());
        drop(taken);
    }
}

//! What may go wrong around a call of a port, drawn from a seed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Code, Error, Result};

/// How many calls in a thousand meet each kind of fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// The call fails and did nothing.
    pub error_before: u32,
    /// The call did its work, and its answer is lost.
    pub error_after: u32,
    /// The process dies before the call.
    pub crash_before: u32,
    /// The process dies after the call did its work.
    pub crash_after: u32,
    /// The call takes a while, in which timers run out: no fault, but others act meanwhile.
    pub slow: u32,
}

/// How long a slow call takes at most.
const SLOW_MAX: Duration = Duration::from_millis(500);

impl Rates {
    pub const NONE: Self = Self { error_before: 0, error_after: 0, crash_before: 0, crash_after: 0, slow: 0 };
}

/// The faults of one process.
///
/// A crash never returns from the call: [`Faults::crashed`] tells the simulator
/// to drop the process.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<State>,
    crash: Notify,
}

#[derive(Debug)]
struct State {
    random: StdRng,
    rates: Rates,
    drawn: Drawn,
    leads: Leads,
    trespasses: Vec<String>,
}

/// What a process knows of its leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    No,
    Yes,
    /// From then on it knows that it does not.
    Until(Instant),
}

/// What only a process may do that leads: these change what others see.
const GUARDED: [&str; 12] = [
    "queue.take",
    "queue.next",
    "queue.finish",
    "writer.open",
    "writer.push",
    "writer.flush",
    "target.load-state",
    "target.load",
    "target.begin",
    "target.apply",
    "target.commit",
    "target.rollback",
];

/// Faults that were drawn, by call; their kinds are in the order of [`Rates`].
pub type Drawn = BTreeMap<&'static str, [u64; 4]>;

enum Fault {
    None,
    ErrorBefore,
    ErrorAfter,
    CrashBefore,
    CrashAfter,
}

impl Faults {
    #[must_use]
    pub fn new(seed: u64, rates: Rates) -> Self {
        let state = State { random: StdRng::seed_from_u64(seed), rates, drawn: Drawn::new(), leads: Leads::No, trespasses: Vec::new() };
        Self { state: Mutex::new(state), crash: Notify::new() }
    }

    /// From now on; [`Rates::NONE`] lets a run come to its end.
    pub fn set(&self, rates: Rates) {
        self.lock().rates = rates;
    }

    /// Which faults were drawn so far. Every call that was made is there.
    #[must_use]
    pub fn drawn(&self) -> Drawn {
        self.lock().drawn.clone()
    }

    /// What the process did to others that was not its own to do: without leading, as far as
    /// it could know.
    #[must_use]
    pub fn trespasses(&self) -> Vec<String> {
        self.lock().trespasses.clone()
    }

    pub(super) fn lead(&self, leads: Leads) {
        self.lock().leads = leads;
    }

    /// Notes what the process did that was not its own to do.
    pub fn trespass(&self, what: impl Into<String>) {
        self.lock().trespasses.push(what.into());
    }

    /// Returns when the process is to die.
    pub async fn crashed(&self) {
        self.crash.notified().await;
    }

    /// Performs a call with whatever befalls it. It may first let other
    /// processes run, so that they interleave in many ways.
    pub async fn around<T>(&self, call: &'static str, perform: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let (yields, delay, fault) = self.lock().draw(call);
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        self.lock().watch(call);
        match fault {
            Fault::None => perform(),
            Fault::ErrorBefore => Err(Error::retry(Code::RegistryAway, format!("{call}: injected, nothing was done"))),
            Fault::ErrorAfter => {
                perform().and_then(|_| Err(Error::retry(Code::RegistryAway, format!("{call}: injected, the answer is lost"))))
            }
            Fault::CrashBefore => self.die().await,
            Fault::CrashAfter => {
                // What the call would have returned dies with the process.
                drop(perform());
                self.die().await
            }
        }
    }

    async fn die<T>(&self) -> T {
        self.crash.notify_one();
        std::future::pending().await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn watch(&mut self, call: &'static str) {
        let may = match self.leads {
            Leads::No => false,
            Leads::Yes => true,
            // A timer may be late by as much.
            Leads::Until(end) => Instant::now() <= end + Duration::from_millis(1),
        };
        if !may && GUARDED.contains(&call) {
            self.trespasses.push(format!("{call} without leading"));
        }
    }

    fn draw(&mut self, call: &'static str) -> (u32, Option<Duration>, Fault) {
        let yields = self.random.random_range(0..3);
        let Rates { error_before, error_after, crash_before, crash_after, slow } = self.rates;
        let is_slow = slow > 0 && self.random.random_range(0..1000_u32) < slow;
        let delay = is_slow.then(|| self.random.random_range(Duration::ZERO..SLOW_MAX));
        let mut drawn = self.random.random_range(0..1000_u32);
        let kinds = [
            (error_before, Fault::ErrorBefore),
            (error_after, Fault::ErrorAfter),
            (crash_before, Fault::CrashBefore),
            (crash_after, Fault::CrashAfter),
        ];
        for ((rate, fault), count) in kinds.into_iter().zip(self.drawn.entry(call).or_default()) {
            if drawn < rate {
                *count += 1;
                return (yields, delay, fault);
            }
            drawn -= rate;
        }
        (yields, delay, Fault::None)
    }
}

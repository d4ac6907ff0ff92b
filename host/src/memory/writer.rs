//! The sending end of a [`Log`], as a broker behind a bad network has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::batch::Batch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::faults::Faults;
use super::log::Log;
use crate::error::Result;
use crate::ports::{self, Messages};

/// Stores what writers push: at once, when they flush, or, of a writer that died,
/// a part of it at any time later.
#[derive(Debug)]
pub struct Broker {
    log: Arc<Log>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: StdRng,
    /// Messages of dead writers that are still on their way, in order for each.
    late: Vec<Vec<Bytes>>,
    arrived_late: u64,
}

impl Broker {
    #[must_use]
    pub fn new(log: Arc<Log>, seed: u64) -> Self {
        let state = State { random: StdRng::seed_from_u64(seed), late: Vec::new(), arrived_late: 0 };
        Self { log, state: Mutex::new(state) }
    }

    /// Messages that arrived after their writer's death.
    #[must_use]
    pub fn arrived_late(&self) -> u64 {
        self.lock().arrived_late
    }

    /// Stores a part of `pending`, as large as it happens.
    fn store_some(&self, pending: &mut Vec<Bytes>) {
        let mut state = self.lock();
        state.deliver_late(&self.log);
        let some = state.random.random_range(0..=pending.len());
        self.log.append(pending.drain(..some));
    }

    fn store_all(&self, pending: &mut Vec<Bytes>) {
        self.lock().deliver_late(&self.log);
        self.log.append(pending.drain(..));
    }

    /// What a dead writer left: the first part of it may still arrive.
    fn inherit(&self, mut pending: Vec<Bytes>) {
        let mut state = self.lock();
        let some = state.random.random_range(0..=pending.len());
        pending.truncate(some);
        if !pending.is_empty() {
            state.late.push(pending);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn deliver_late(&mut self, log: &Log) {
        for messages in &mut self.late {
            let some = self.random.random_range(0..=messages.len());
            self.arrived_late += some as u64;
            log.append(messages.drain(..some));
        }
        self.late.retain(|messages| !messages.is_empty());
    }
}

/// Dropping it is its death.
#[derive(Debug)]
pub struct Writer {
    broker: Arc<Broker>,
    faults: Arc<Faults>,
    pending: Vec<Bytes>,
}

impl Writer {
    #[must_use]
    pub fn new(broker: Arc<Broker>, faults: Arc<Faults>) -> Self {
        Self { broker, faults, pending: Vec::new() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.broker.inherit(std::mem::take(&mut self.pending));
    }
}

impl ports::Writer for Writer {
    async fn push(&mut self, _batch: &Batch, messages: Messages) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        let push = || {
            self.pending.extend(messages.iter().map(Bytes::copy_from_slice));
            self.broker.store_some(&mut self.pending);
            Ok(())
        };
        faults.around("writer.push", push).await
    }

    async fn flush(&mut self) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        let flush = || {
            self.broker.store_all(&mut self.pending);
            Ok(())
        };
        faults.around("writer.flush", flush).await
    }
}

//! When a queue needs a tick. Pure.
//!
//! PgQ's own ticker asks its event sequence whether there are new events. That
//! misses those of a transaction that drew its event ids before the last tick
//! and committed after it: they wait for the next idle tick. Here the answer
//! takes the transactions into account that were in progress.

use std::time::Duration;

use proto::interfaces::common::Snapshot;
use proto::snapshot;

/// An idle queue ticks this often: an empty batch is the heartbeat.
pub const IDLE: Duration = Duration::from_secs(60);

/// While batches wait to be relayed a tick can wait too, up to this long: it
/// keeps batches from growing without bound, and few.
pub const BEHIND: Duration = Duration::from_secs(1);

/// What is seen of a queue at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Of the transaction that reads.
    pub snapshot: Snapshot,
    /// The last event id that was drawn from the queue's sequence.
    pub event_sequence: i64,
    /// The last tick: its snapshot, its `tick_event_seq`, its age.
    pub tick_snapshot: Snapshot,
    pub tick_event_sequence: i64,
    pub tick_age: Duration,
    /// The transaction that made the tick. It began after the sequence had the
    /// value `tick_event_sequence`, so those that had drawn an event id by then
    /// are below it. (A snapshot's `max` does not say that: transactions under
    /// way can be above it.)
    pub ticker: u64,
    /// Whether the consumer has ticks before it that it has not finished.
    pub behind: bool,
}

/// Whether to tick now.
#[must_use]
pub fn due(reading: &Reading) -> bool {
    let events = reading.event_sequence != reading.tick_event_sequence || finished(reading);
    reading.tick_age >= IDLE || (events && (!reading.behind || reading.tick_age >= BEHIND))
}

/// Whether a transaction that may have drawn an event id before the last tick has
/// finished since.
fn finished(reading: &Reading) -> bool {
    let tick = &reading.tick_snapshot;
    // Between the snapshot's end and its own transaction there are few.
    let mut in_progress = tick.active.iter().copied().chain(tick.max..reading.ticker);
    in_progress.any(|transaction| snapshot::visible(&reading.snapshot, transaction))
}

/// The transaction whose last 32 bits are `short`, of those that follow `before`
/// within half of all that 32 bits can tell apart.
#[must_use]
pub fn full_transaction(short: u32, before: u64) -> u64 {
    // The low half alone: what the cast is for.
    let distance = short.wrapping_sub(before as u32);
    if distance > u32::MAX / 2 { before } else { before + u64::from(distance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        proto::snapshot::parse(text).unwrap()
    }

    /// The tick's own transaction is 20.
    fn reading(now: &str, events: i64, tick: &str, tick_events: i64) -> Reading {
        Reading {
            snapshot: snapshot(now),
            event_sequence: events,
            tick_snapshot: snapshot(tick),
            tick_event_sequence: tick_events,
            tick_age: Duration::from_millis(500),
            ticker: 20,
            behind: false,
        }
    }

    #[test]
    fn a_new_event_ticks() {
        assert!(due(&reading("30:30:", 5, "10:10:", 4)));
    }

    #[test]
    fn an_idle_queue_ticks_once_a_minute_and_not_before() {
        let idle = reading("21:21:", 4, "20:20:", 4);
        assert!(!due(&idle));
        assert!(due(&Reading { tick_age: IDLE, ..idle }));
    }

    #[test]
    fn an_event_drawn_before_the_tick_and_committed_after_it_ticks() {
        // Transaction 12 drew event 5; the tick came before it committed.
        assert!(!due(&reading("12:21:12", 5, "12:20:12", 5)));
        assert!(due(&reading("21:21:", 5, "12:20:12", 5)));
        // No transaction had ended yet that began after 12, so the tick's snapshot ends at it.
        assert!(!due(&reading("12:21:12", 5, "12:12:", 5).among(13)));
        assert!(due(&reading("21:21:", 5, "12:12:", 5).among(13)));
    }

    impl Reading {
        fn among(self, ticker: u64) -> Self {
            Self { ticker, ..self }
        }
    }

    #[test]
    fn transactions_that_began_later_do_not_tick() {
        // 12 stays open for long; 21 and up come and go, and write elsewhere.
        for now in 22..1000 {
            assert!(!due(&reading(&format!("12:{now}:12"), 5, "12:20:12", 5)), "{now}");
        }
    }

    #[test]
    fn while_batches_wait_ticks_are_a_second_apart() {
        let behind = Reading { behind: true, ..reading("30:30:", 5, "10:10:", 4) };
        assert!(!due(&behind));
        assert!(due(&Reading { tick_age: BEHIND, ..behind }));
    }

    #[test]
    fn transactions_have_64_bits() {
        assert_eq!(full_transaction(7, 5), 7);
        assert_eq!(full_transaction(5, 5), 5);
        assert_eq!(full_transaction(3, (1 << 32) - 2), (1 << 32) + 3);
        assert_eq!(full_transaction(9, (7 << 32) + 2), (7 << 32) + 9);
        // Its own transaction may be below the snapshot's end.
        assert_eq!(full_transaction(4, (7 << 32) + 9), (7 << 32) + 9);
    }
}

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
    /// Of the transaction that reads, taken before the rest was read.
    pub snapshot: Snapshot,
    /// The last event id that was drawn from the queue's sequence.
    pub event_sequence: i64,
    /// The last tick: its snapshot, its `tick_event_seq`, its age.
    pub tick_snapshot: Snapshot,
    pub tick_event_sequence: i64,
    pub tick_age: Duration,
    /// Whether the consumer has ticks before it that it has not finished.
    pub behind: bool,
}

/// Remembers what one reading cannot know.
#[derive(Clone, Debug, Default)]
pub struct Ticker {
    drawn: Option<Drawn>,
}

/// About the event ids that were drawn so far.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    event_sequence: i64,
    /// Transactions that drew one of them are below it. Known from the first
    /// reading whose snapshot was taken after the sequence had that value.
    horizon: Option<u64>,
}

impl Ticker {
    /// Whether to tick now. To be asked about every reading, in their order.
    pub fn due(&mut self, reading: &Reading) -> bool {
        let drawn = match self.drawn {
            Some(drawn) if drawn.event_sequence == reading.event_sequence => {
                Drawn { horizon: drawn.horizon.or(Some(reading.snapshot.max)), ..drawn }
            }
            _ => Drawn { event_sequence: reading.event_sequence, horizon: None },
        };
        self.drawn = Some(drawn);
        if reading.tick_age >= IDLE {
            return true;
        }
        let events = drawn.event_sequence != reading.tick_event_sequence || drawn.horizon.is_some_and(|horizon| finished(reading, horizon));
        events && (!reading.behind || reading.tick_age >= BEHIND)
    }
}

/// Whether a transaction below `horizon` has finished since the last tick.
fn finished(reading: &Reading, horizon: u64) -> bool {
    let tick = &reading.tick_snapshot;
    let in_progress = tick.active.iter().copied().filter(|transaction| *transaction < horizon);
    // Between the tick and the moment that set the horizon few transactions began.
    in_progress.chain(tick.max..horizon).any(|transaction| snapshot::visible(&reading.snapshot, transaction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        proto::snapshot::parse(text).unwrap()
    }

    fn reading(now: &str, events: i64, tick: &str, tick_events: i64) -> Reading {
        Reading {
            snapshot: snapshot(now),
            event_sequence: events,
            tick_snapshot: snapshot(tick),
            tick_event_sequence: tick_events,
            tick_age: Duration::from_millis(500),
            behind: false,
        }
    }

    #[test]
    fn a_new_event_ticks() {
        assert!(Ticker::default().due(&reading("20:20:", 5, "10:10:", 4)));
    }

    #[test]
    fn an_idle_queue_ticks_once_a_minute_and_not_before() {
        let mut ticker = Ticker::default();
        let idle = reading("10:10:", 4, "10:10:", 4);
        assert!(!ticker.due(&idle));
        assert!(!ticker.due(&idle));
        assert!(ticker.due(&Reading { tick_age: IDLE, ..idle }));
    }

    #[test]
    fn an_event_drawn_before_the_tick_and_committed_after_it_ticks() {
        // Transaction 12 drew event 5; the tick came before it committed.
        let mut ticker = Ticker::default();
        assert!(!ticker.due(&reading("12:15:12", 5, "12:15:12", 5)));
        assert!(!ticker.due(&reading("12:15:12", 5, "12:15:12", 5)));
        assert!(ticker.due(&reading("16:16:", 5, "12:15:12", 5)));
        // After that tick nothing is left, however many others write elsewhere.
        assert!(!ticker.due(&reading("17:17:", 5, "16:16:", 5)));
        assert!(!ticker.due(&reading("90:95:91", 5, "16:16:", 5)));
    }

    #[test]
    fn a_transaction_that_begins_between_snapshot_and_sequence_is_not_missed() {
        // The tick's snapshot ends at 15; transaction 15 drew event 5 right
        // after it, before the ticker read the sequence.
        let mut ticker = Ticker::default();
        assert!(!ticker.due(&reading("15:15:", 5, "15:15:", 5)));
        assert!(!ticker.due(&reading("15:16:15", 5, "15:15:", 5)));
        assert!(ticker.due(&reading("16:16:", 5, "15:15:", 5)));
    }

    #[test]
    fn others_that_write_elsewhere_do_not_tick_forever() {
        let mut ticker = Ticker::default();
        let mut ticks = 0;
        let mut tick = "100:100:".to_owned();
        // One long transaction, 101; new ones come and go all the time.
        for now in 102..1000 {
            let current = format!("101:{now}:101");
            if ticker.due(&reading(&current, 5, &tick, 5)) {
                ticks += 1;
                tick = current;
            }
        }
        assert!(ticks <= 2, "{ticks}");
    }

    #[test]
    fn while_batches_wait_ticks_are_a_second_apart() {
        let behind = Reading { behind: true, ..reading("20:20:", 5, "10:10:", 4) };
        assert!(!Ticker::default().due(&behind));
        assert!(Ticker::default().due(&Reading { tick_age: BEHIND, ..behind }));
    }
}

//! When a queue needs a tick, and when to look again. Pure.
//!
//! PgQ's own ticker asks its event sequence whether there are new events. That
//! makes empty batches of events that are drawn and not committed, and misses those
//! of a transaction that drew its event ids before the last tick and committed after
//! it: they wait for the next idle tick. Here the sequence and the snapshots say
//! which transactions can have made an event that the last tick does not see, and
//! the event tables say whether one of them did.

use std::time::Duration;

use proto::interfaces::common::Snapshot;
use proto::snapshot;

/// An idle queue ticks this often: an empty batch is the heartbeat.
pub const IDLE: Duration = Duration::from_secs(60);

/// While batches wait to be relayed a tick can wait too, up to this long: it
/// keeps batches from growing without bound, and few.
pub const BEHIND: Duration = Duration::from_secs(1);

/// No two ticks come closer than this: each is a transaction here, and one of each target.
pub const APART: Duration = Duration::from_millis(5);

/// A transaction that is under way is looked for again after this part of the time that
/// has passed since the last event was drawn.
const PATIENCE: u32 = 8;

/// The shortest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(2);

/// The longest. The server waits for an event to be drawn meanwhile, in a statement that
/// holds a lock on the sequence: no longer than whoever drops it is willing to wait.
const LOOK_MAX: Duration = Duration::from_millis(400);

/// How often the server looks at the sequence while it waits, at least and at most.
const STEP_MIN: Duration = Duration::from_millis(4);
const STEP_MAX: Duration = Duration::from_millis(20);

/// What is seen of a queue at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Of the transaction that reads.
    pub snapshot: Snapshot,
    /// The last event id that was drawn from the queue's sequence.
    pub event_sequence: i64,
    /// Whether events may have been drawn since the last tick that the sequence does not tell of.
    pub uncertain: bool,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    No,
    Yes,
    /// If there is an event of one of these transactions, from and to.
    IfEvents(Vec<(u64, u64)>),
}

/// What to do until the queue is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    Sleep(Duration),
    /// Let the server wait until an event is drawn: it looks so many times, so far apart.
    Watch {
        steps: u32,
        step: Duration,
    },
}

/// Whether to tick now.
#[must_use]
pub fn due(reading: &Reading) -> Due {
    if reading.behind && reading.tick_age < BEHIND {
        return Due::No;
    }
    if reading.tick_age >= IDLE {
        return Due::Yes;
    }
    let ended = ended(reading);
    if ended.is_empty() { Due::No } else { Due::IfEvents(ended) }
}

/// When to look again, `quiet` after the last event was drawn.
#[must_use]
pub fn pause(reading: &Reading, quiet: Duration) -> Pause {
    let patience = (quiet / PATIENCE).clamp(LOOK_MIN, LOOK_MAX);
    let at_most = if drawn(reading) || is_any_open(reading) { patience } else { LOOK_MAX };
    if at_most <= STEP_MAX {
        return Pause::Sleep(at_most);
    }
    let step = patience.clamp(STEP_MIN, STEP_MAX);
    Pause::Watch { steps: u32::try_from(at_most.as_micros() / step.as_micros()).unwrap_or(1), step }
}

fn drawn(reading: &Reading) -> bool {
    reading.uncertain || reading.event_sequence != reading.tick_event_sequence
}

/// The transactions that may have made events which the last tick does not see and
/// `reading` does.
fn ended(reading: &Reading) -> Vec<(u64, u64)> {
    let (tick, now) = (&reading.tick_snapshot, &reading.snapshot);
    let mut ended: Vec<(u64, u64)> = tick.active.iter().filter(|active| snapshot::visible(now, **active)).map(|id| (*id, *id)).collect();
    let mut from = tick.max;
    // Between the tick's snapshot and its own transaction there are few.
    let end = if drawn(reading) { now.max } else { now.max.min(reading.ticker) };
    for open in now.active.iter().copied().filter(|open| (tick.max..end).contains(open)).chain([end]) {
        if from < open {
            ended.push((from, open - 1));
        }
        from = from.max(open + 1);
    }
    ended
}

/// Whether a transaction that may have drawn an event id before the last tick is under
/// way since then.
fn is_any_open(reading: &Reading) -> bool {
    let (tick, now) = (&reading.tick_snapshot, &reading.snapshot);
    let mut of_the_tick = tick.active.iter();
    of_the_tick.any(|active| !snapshot::visible(now, *active)) || now.active.iter().any(|open| (tick.max..reading.ticker).contains(open))
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
            uncertain: false,
            tick_snapshot: snapshot(tick),
            tick_event_sequence: tick_events,
            tick_age: Duration::from_millis(500),
            ticker: 20,
            behind: false,
        }
    }

    fn asks(reading: &Reading) -> Vec<(u64, u64)> {
        match due(reading) {
            Due::No => Vec::new(),
            Due::Yes => panic!("{reading:?} ticks without an event"),
            Due::IfEvents(ended) => ended,
        }
    }

    #[test]
    fn new_events_are_looked_for_in_all_that_ended_since_the_tick() {
        assert_eq!(asks(&reading("30:30:", 5, "10:10:", 4)), [(10, 29)]);
        assert_eq!(asks(&reading("12:30:12,15,16,29", 5, "10:13:10,12", 4)), [(10, 10), (13, 14), (17, 28)]);
    }

    #[test]
    fn events_that_are_drawn_and_not_committed_are_not_looked_for() {
        assert_eq!(due(&reading("20:21:20", 5, "20:20:", 4)), Due::No);
        assert_eq!(due(&reading("20:20:", 5, "20:20:", 4)), Due::No);
    }

    #[test]
    fn an_idle_queue_ticks_once_a_minute_and_not_before() {
        let idle = reading("21:21:", 4, "20:20:", 4);
        assert_eq!(due(&idle), Due::No);
        assert_eq!(due(&Reading { tick_age: IDLE, ..idle }), Due::Yes);
    }

    #[test]
    fn an_event_drawn_before_the_tick_and_committed_after_it_is_looked_for() {
        // Transaction 12 drew event 5; the tick came before it committed.
        assert_eq!(due(&reading("12:21:12", 5, "12:20:12", 5)), Due::No);
        assert_eq!(asks(&reading("21:21:", 5, "12:20:12", 5)), [(12, 12)]);
        // No transaction had ended yet that began after 12, so the tick's snapshot ends at it.
        assert_eq!(due(&reading("12:21:12", 5, "12:12:", 5).among(13)), Due::No);
        assert_eq!(asks(&reading("21:21:", 5, "12:12:", 5).among(13)), [(12, 12)]);
    }

    impl Reading {
        fn among(self, ticker: u64) -> Self {
            Self { ticker, ..self }
        }
    }

    #[test]
    fn transactions_that_began_later_are_not_looked_at() {
        // 12 stays open for long; 21 and up come and go, and write elsewhere.
        for now in 22..1000 {
            assert_eq!(due(&reading(&format!("12:{now}:12"), 5, "12:20:12", 5)), Due::No, "{now}");
        }
    }

    #[test]
    fn before_the_first_event_the_sequence_is_not_trusted() {
        let first = reading("30:30:", 1, "20:20:", 1);
        assert_eq!(due(&first), Due::No);
        assert_eq!(asks(&Reading { uncertain: true, ..first }), [(20, 29)]);
    }

    #[test]
    fn while_batches_wait_ticks_are_a_second_apart() {
        let behind = Reading { behind: true, ..reading("30:30:", 5, "10:10:", 4) };
        assert_eq!(due(&behind), Due::No);
        assert_eq!(asks(&Reading { tick_age: BEHIND, ..behind }), [(10, 29)]);
    }

    /// How long it lasts at most.
    fn lasts(pause: Pause) -> Duration {
        match pause {
            Pause::Sleep(duration) => duration,
            Pause::Watch { steps, step } => step * steps,
        }
    }

    #[test]
    fn what_is_under_way_is_looked_for_again_after_a_part_of_the_time_it_has_taken() {
        let drawn = reading("20:21:20", 5, "20:20:", 4);
        let before_the_tick = reading("12:21:12", 5, "12:20:12", 5);
        for under_way in [drawn, before_the_tick] {
            for quiet in [1, 10, 100, 1000, 100_000].map(Duration::from_millis) {
                let pause = lasts(pause(&under_way, quiet));
                assert!(pause >= LOOK_MIN && pause <= LOOK_MAX && (pause <= quiet / 8 || pause == LOOK_MIN), "{quiet:?} {pause:?}");
            }
        }
    }

    #[test]
    fn an_idle_queue_is_watched_by_the_server() {
        let idle = reading("21:21:", 5, "20:20:", 5);
        for quiet in [0, 10, 100, 1000, 100_000].map(Duration::from_millis) {
            let Pause::Watch { step, .. } = pause(&idle, quiet) else { panic!("{quiet:?}") };
            assert!(step <= STEP_MAX && step <= STEP_MIN.max(quiet / 8), "{quiet:?} {step:?}");
            assert_eq!(lasts(pause(&idle, quiet)), LOOK_MAX, "{quiet:?}");
        }
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

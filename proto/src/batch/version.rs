//! Versions: a number for each change, which grows for every row from change to change.
//!
//! A store without transactions keeps the write with the highest version. So for every
//! row the versions have to grow strictly in the order in which the changes reach the
//! target, whatever becomes of the source. Event ids do not: they begin anew with the
//! queue, and go back with a backup or with a replica that was behind. They are also not
//! in the order of the bootstrap: of two events that were written while the snapshot was
//! taken, the one with the lower id may be the one that the snapshot does not see.
//!
//! # The rule
//!
//! A batch has the time of the tick that ends it, in microseconds since 1970. Its first
//! mutation has that time as its version, the next one that time plus 1, and so on. But a
//! batch begins above every version that the target was given before, at the lowest: then
//! at the highest of them plus 1. The rows of a bootstrap all have one version: the time at
//! which the snapshot was opened, by the clock of the source, and also above every version
//! before. The highest version is a part of the state that the target stores (`version` in
//! `replication.proto`). A batch that is sent again (the same two ticks, made at the same
//! times) begins where it began the first time.
//!
//! # Why it grows
//!
//! 1. *In one batch.* Mutations come in the order of their events, which for one row is the
//!    order of its changes, since each change waits for the row's lock. Each has one more
//!    than the one before.
//! 2. *From batch to batch.* Each batch begins above the highest version so far. That the
//!    changes of a row are not spread over batches in a wrong order is PgQ's promise.
//! 3. *From before a bootstrap to it, and from it on.* Its version is above the highest of
//!    the state that it replaces, and becomes the highest of the state that it stores. A
//!    change that the snapshot holds is passed over; a change that it does not hold comes in
//!    a batch after it, which begins above.
//! 4. *Whatever becomes of the source.* Nothing above depends on event ids, ticks, epochs or
//!    clocks. A failover, a backup, another database or a clock that was set back may give a
//!    batch an old time: then it begins at the highest plus 1. The same holds for batches
//!    with more mutations than microseconds pass until the next one, so a rate above a
//!    million changes a second does no harm.
//! 5. *After a crash of the worker.* What a worker gives to changes follows from the state
//!    that it resumed from and from the messages behind it, and from nothing else. So the
//!    next one, which resumes from the same state, gives the same versions to the same
//!    changes. Half a batch that was given up counts as given: another batch in its place
//!    (a replica that was behind has other ticks) begins above it. The same batch once more
//!    has the same versions, which are those of the same changes.
//! 6. *They fit into 63 bits.* A time after the year 9999 counts as the end of that year,
//!    which is below 2^58, and no target is given 2^62 changes.
//!
//! # What is assumed
//!
//! A bootstrap knows what the state says that it replaces. It does not know the versions of
//! a state that somebody deleted, nor those of half a batch inside which the worker ended.
//! Above these it is by the source's time alone: unless the clock was set back in between,
//! or more than a million changes a second came. A target that replaces what its tables
//! held, as it has to, has nothing left of half a batch.
//!
//! # Who agrees
//!
//! The version is the time of the tick plus a position wherever the clock does not go back
//! and fewer than a million changes a second come. All that is in the stream. So all targets
//! of a stream give the same change the same version, whoever published it, in the streams
//! of older relays too. After a burst or a step of the clock, a target that was bootstrapped
//! since may differ from the others until the clock has passed the highest version. Each
//! target's versions grow meanwhile.

use super::{Batch, Id};
use crate::interfaces::common::Timestamp;
use crate::interfaces::replication::State;
use crate::timestamp::micros;

/// The end of the year 9999, in microseconds since 1970.
const TIME_MAX: u64 = 253_402_300_799_999_999;

/// No state of ours holds a higher one: see point 6 above.
pub(super) const VERSION_MAX: u64 = 1 << 62;

/// What versions one target was given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Versions {
    /// The highest so far.
    highest: u64,
    /// Of the next mutation.
    next: u64,
    /// The batch that began last, unless it was committed.
    attempt: Option<Attempt>,
}

/// A batch that may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    node: Id,
    start: (u64, Timestamp),
    end: (u64, Timestamp),
    /// Of its first mutation.
    first: u64,
}

impl Versions {
    /// Goes on behind `highest`.
    pub(super) fn resume(highest: u64) -> Self {
        Self { highest, next: highest.saturating_add(1), attempt: None }
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, batch: &Batch) {
        let time = micros(&batch.end.timestamp).map_or(0, |us| u64::try_from(us).unwrap_or(0)).min(TIME_MAX);
        let (start, end) = ((batch.start.id, batch.start.timestamp), (batch.end.id, batch.end.timestamp));
        let new = Attempt { node: batch.node, start, end, first: time.max(self.highest.saturating_add(1)) };
        let again = self.attempt.filter(|known| Attempt { first: new.first, ..*known } == new);
        let attempt = again.unwrap_or(new);
        self.attempt = Some(attempt);
        self.next = attempt.first;
    }

    /// The open batch was committed: it does not come again.
    pub(super) fn commit(&mut self) {
        self.attempt = None;
    }

    /// The version of the next mutation of the open batch.
    pub(super) fn take(&mut self) -> u64 {
        let version = self.next;
        self.highest = self.highest.max(version);
        self.next = version.saturating_add(1);
        version
    }
}

/// The version of the rows of a bootstrap. `opened_us` is when its snapshot was opened, by
/// the source's clock, in microseconds since 1970; `replaced` is the state that the target
/// has.
#[must_use]
pub fn of_bootstrap(opened_us: i64, replaced: Option<&State>) -> u64 {
    let time = u64::try_from(opened_us).unwrap_or(0).min(TIME_MAX);
    // One that no state of ours holds says nothing.
    let given = replaced.and_then(|state| state.version).filter(|version| *version < VERSION_MAX).unwrap_or(0);
    time.max(given.saturating_add(1))
}

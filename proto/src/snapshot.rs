//! What a transaction sees: PostgreSQL's `txid_snapshot`.
//!
//! Invariant of every [`Snapshot`] that this crate decodes or parses: `min <= max`,
//! `active` strictly ascending, each of it at least `min` and below `max`.

use std::fmt::Write as _;

use crate::interfaces::common::Snapshot;

/// Text that is no `txid_snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no snapshot: {problem}; expected `xmin:xmax:xip,xip,…` as txid_current_snapshot() prints it")]
pub struct ParseError {
    text: String,
    problem: &'static str,
}

/// Reads what `txid_current_snapshot()` prints: `10:20:10,14,15`.
pub fn parse(text: &str) -> Result<Snapshot, ParseError> {
    let fail = |problem| ParseError { text: text.chars().take(100).collect(), problem };
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| fail("not a transaction id"));
    let mut parts = text.split(':');
    let (Some(min), Some(max), Some(active), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(fail("not three parts"));
    };
    let active = if active.is_empty() { Vec::new() } else { active.split(',').map(number).collect::<Result<_, _>>()? };
    let snapshot = Snapshot { min: number(min)?, max: number(max)?, active };
    check(&snapshot).map_err(fail)?;
    Ok(snapshot)
}

/// The text that `::txid_snapshot` reads.
#[must_use]
pub fn print(snapshot: &Snapshot) -> String {
    let mut text = format!("{}:{}:", snapshot.min, snapshot.max);
    for (index, transaction) in snapshot.active.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{transaction}");
    }
    text
}

/// The invariant, as an error text.
pub(crate) fn check(snapshot: &Snapshot) -> Result<(), &'static str> {
    if snapshot.min > snapshot.max {
        return Err("xmin is after xmax");
    }
    if !snapshot.active.is_sorted_by(|a, b| a < b) {
        return Err("the transactions in progress are not ascending");
    }
    if snapshot.active.first().is_some_and(|first| *first < snapshot.min) {
        return Err("a transaction in progress is before xmin");
    }
    if snapshot.active.last().is_some_and(|last| *last >= snapshot.max) {
        return Err("a transaction in progress is not before xmax");
    }
    Ok(())
}

/// Whether the transaction had finished when the snapshot was taken. Two
/// comparisons for most, a binary search for those between `min` and `max`.
#[must_use]
pub fn visible(snapshot: &Snapshot, transaction: u64) -> bool {
    transaction < snapshot.min || (transaction < snapshot.max && snapshot.active.binary_search(&transaction).is_err())
}

/// Whether everything that `earlier` sees is seen by `later` too. Where this
/// says no although no transaction was missed (an id that a subtransaction took
/// counts as seen), it errs on the safe side.
#[must_use]
pub fn contains(later: &Snapshot, earlier: &Snapshot) -> bool {
    if later.active.iter().any(|transaction| visible(earlier, *transaction)) {
        return false;
    }
    // Ids from `later.max` on: all of them must have been in progress for `earlier`.
    let beyond = earlier.max.saturating_sub(later.max);
    let in_progress = earlier.active.len() - earlier.active.partition_point(|transaction| *transaction < later.max);
    in_progress as u64 == beyond
}

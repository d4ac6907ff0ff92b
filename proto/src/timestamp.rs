//! Microseconds, which PostgreSQL counts in, and the timestamps of the messages.

use crate::interfaces::common::Timestamp;

const MICROS: i64 = 1_000_000;

/// `us` is microseconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn from_micros(us: i64) -> Timestamp {
    // The remainder is below a million, so its nanoseconds fit.
    Timestamp { seconds: us.div_euclid(MICROS), nanos: (us.rem_euclid(MICROS) * 1000) as i32 }
}

/// Microseconds since 1970-01-01T00:00:00Z; `None` where 64 bits do not hold them.
#[must_use]
pub fn micros(timestamp: &Timestamp) -> Option<i64> {
    timestamp.seconds.checked_mul(MICROS)?.checked_add(i64::from(timestamp.nanos / 1000))
}

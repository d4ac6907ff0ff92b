//! How long to wait before the next attempt. Pure: the caller sleeps, and
//! brings the randomness.

use std::time::Duration;

/// Waits double from `first` up to `cap`, each shortened by up to half, so that
/// processes that lost the same server do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// Both loops: a quarter of a second at first, half a minute at most.
    pub const DEFAULT: Self = Self::new(Duration::from_millis(250), Duration::from_secs(30));

    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, attempts: 0 }
    }

    /// The wait before the next attempt: between half and all of
    /// `min(cap, first * 2^attempts)`. `random` is any number, drawn anew each time.
    pub fn wait(&mut self, random: u32) -> Duration {
        let doubled = 2_u32.checked_pow(self.attempts).and_then(|factor| self.first.checked_mul(factor));
        let whole = doubled.map_or(self.cap, |wait| wait.min(self.cap));
        self.attempts = self.attempts.saturating_add(1);
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Attempts since the last success.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// To call after a success: the next wait is short again.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| backoff.wait(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.wait(0).as_millis(), 50);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_zero_nor_above_the_cap(attempts: u32, random: u32) {
            let mut backoff = Backoff { attempts, ..Backoff::DEFAULT };
            let wait = backoff.wait(random);
            prop_assert!(wait >= Duration::from_millis(125) && wait <= Duration::from_secs(30));
        }
    }
}

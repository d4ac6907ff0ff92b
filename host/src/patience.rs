//! Whether to try again after an error, and when. Pure, but for the log.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, Next, Result};

/// How often to try again.
#[derive(Debug)]
pub struct Patience {
    backoff: Backoff,
    /// Commits when the last attempt failed.
    commits: u64,
    /// Commits when a plugin broke off last.
    trapped: Option<u64>,
    /// What a person has to mend, and how long was waited since it was said.
    blocked: Option<(String, Duration)>,
}

/// What a person has to mend is said when it is first met, and so often again.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(5 * 60);

impl Patience {
    /// `commits`: how much became durable so far.
    #[must_use]
    pub fn new(commits: u64) -> Self {
        Self { backoff: Backoff::DEFAULT, commits, trapped: None, blocked: None }
    }

    /// How long to wait before the next attempt, or that there is to be none.
    pub fn judge(&mut self, error: Error, commits: u64, random: u32) -> Result<Duration> {
        if commits > self.commits {
            self.backoff.reset();
            self.blocked = None;
        }
        self.commits = commits;
        match error.next {
            Next::Retry => {
                let wait = self.backoff.wait(random);
                tracing::warn!(code = %error.code, %error, attempt = self.backoff.attempts(), wait_ms = wait.as_millis(), "waiting to try again");
                Ok(wait)
            }
            Next::Blocked => {
                let wait = self.backoff.wait(random);
                self.say(&error, wait);
                Ok(wait)
            }
            Next::Trap if self.trapped != Some(commits) => {
                self.trapped = Some(commits);
                tracing::warn!(code = %error.code, %error, "a plugin broke off; it is opened anew and tried once more");
                Ok(Duration::ZERO)
            }
            Next::Trap => Err(error.context("a plugin broke off twice at the same place")),
            Next::Usage | Next::Configure | Next::Stop | Next::Bug => Err(error),
        }
    }

    fn say(&mut self, error: &Error, wait: Duration) {
        match &mut self.blocked {
            Some((said, waited)) if *said == error.message && *waited < SAID_AGAIN_AFTER => *waited += wait,
            blocked => {
                tracing::error!(code = %error.code, %error, "nothing goes on until this is mended; it is looked at again and again");
                *blocked = Some((error.message.clone(), wait));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn waits_grow_until_something_becomes_durable() {
        let mut patience = Patience::new(0);
        let mut wait = |commits| patience.judge(Error::retry(Code::DatabaseAway, "away"), commits, u32::MAX).unwrap().as_millis();
        assert_eq!([wait(0), wait(0), wait(0), wait(1), wait(1)], [250, 500, 1000, 250, 500]);
    }

    #[test]
    fn what_a_person_has_to_mend_is_waited_for_and_said_now_and_then() {
        let mut patience = Patience::new(0);
        let mut waited = Duration::ZERO;
        for _ in 0..100 {
            waited += patience.judge(Error::blocked(Code::TargetBlocked, "a column is missing"), 0, u32::MAX).unwrap();
            let (said, since) = patience.blocked.as_ref().unwrap();
            assert!(said == "a column is missing" && *since <= SAID_AGAIN_AFTER + Duration::from_secs(30));
        }
        assert!(waited > 8 * SAID_AGAIN_AFTER);
        patience.judge(Error::blocked(Code::TargetBlocked, "a column is missing"), 1, 0).unwrap();
        assert!(patience.blocked.as_ref().is_some_and(|(_, since)| *since < Duration::from_secs(1)));
    }

    #[test]
    fn a_plugin_may_break_off_once_at_one_place() {
        let mut patience = Patience::new(7);
        let trap = || Error::trap(Code::PluginTrapped, "unreachable");
        assert_eq!(patience.judge(trap(), 7, 0).unwrap(), Duration::ZERO);
        assert_eq!(patience.judge(trap(), 8, 0).unwrap(), Duration::ZERO);
        patience.judge(Error::retry(Code::DatabaseAway, "away"), 8, 0).unwrap();
        let error = patience.judge(trap(), 8, 0).unwrap_err();
        assert_eq!(error.message, "a plugin broke off twice at the same place: unreachable");
    }

    #[test]
    fn what_waiting_does_not_mend_ends_it() {
        for error in [
            Error::stop(Code::StatementRefused, "x"),
            Error::configure(Code::StatementRefused, "x"),
            Error::bug("x"),
            Error::usage(Code::StatementRefused, "x"),
        ] {
            let next = error.next;
            assert_eq!(Patience::new(0).judge(error, 0, 0).unwrap_err().next, next);
        }
    }
}

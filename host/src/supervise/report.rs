//! Keeps what the registry shows of a leader true.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::observe::{Facts, State, Status, now_us};
use crate::ports::registry::{Condition, Lease, Report};

/// How often to look whether what is shown is still true.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How old the tick may be that is shown: each one costs the registry a write.
const TICK_AGE_MAX: Duration = Duration::from_secs(30);

/// What the registry shows, and since when.
#[derive(Debug, Default)]
pub(super) struct Shown(Option<(Report, Instant)>);

impl Shown {
    /// Shows how the process is, for as long as this is not dropped. An error is no reason to
    /// stop working: the next look tries again.
    pub(super) async fn follow(&mut self, lease: &impl Lease, status: &Status) -> Infallible {
        loop {
            let now = of(&status.facts(), now_us());
            if self.is_due(&now) {
                match lease.report(&now).await {
                    Ok(()) => self.0 = Some((now, Instant::now())),
                    Err(error) => tracing::debug!(code = %error.code, %error, "the registry cannot be told how this process is"),
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn is_due(&self, now: &Report) -> bool {
        self.0.as_ref().is_none_or(|(shown, at)| {
            // What `since` is computed from has no fractions of a second: it may differ by one.
            let since = shown.since.abs_diff(now.since) > 1;
            shown.state != now.state || since || (shown.tick != now.tick && at.elapsed() >= TICK_AGE_MAX)
        })
    }
}

fn of(facts: &Facts, now_us: i64) -> Report {
    let state = match facts.state() {
        State::Starting | State::Standby | State::Stopping => Condition::Starting,
        State::Leading => Condition::Working,
        State::Waiting(..) if facts.blocked => Condition::Blocked,
        State::Waiting(..) => Condition::Waiting,
    };
    let now = u64::try_from(now_us / 1_000_000).unwrap_or_default();
    Report { state, since: now.saturating_sub(facts.state_age().as_secs()), tick: facts.last.map(|last| last.tick) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};
    use crate::observe::Last;

    #[tokio::test(start_paused = true)]
    async fn a_report_says_how_the_leader_is_and_no_text() {
        let status = Status::new("worker", "app");
        assert_eq!(of(&status.facts(), 7_900_000), Report { state: Condition::Starting, since: 7, tick: None });
        status.enter(State::Leading);
        status.update(|facts| facts.last = Some(Last { tick: 9, ready_us: 1, lag_seconds: 0.0 }));
        assert_eq!(of(&status.facts(), 7_900_000), Report { state: Condition::Working, since: 7, tick: Some(9) });
        status.wait_for(&Error::retry(Code::DatabaseAway, "away"));
        assert_eq!(of(&status.facts(), 7_900_000).state, Condition::Waiting);
        status.wait_for(&Error::blocked(Code::TargetBlocked, "the row (secret) does not fit"));
        tokio::time::advance(Duration::from_secs(5)).await;
        let report = of(&status.facts(), 12_900_000);
        assert_eq!(report, Report { state: Condition::Blocked, since: 7, tick: Some(9) });
        assert_eq!(serde_json::to_string(&report).unwrap(), r#"{"state":"blocked","since":7,"tick":9}"#);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_are_shown_now_and_then_and_states_at_once() {
        let report = |state, tick| Report { state, since: 7, tick: Some(tick) };
        let shown = Shown(Some((report(Condition::Working, 1), Instant::now())));
        assert!(!shown.is_due(&report(Condition::Working, 2)) && shown.is_due(&report(Condition::Blocked, 1)));
        tokio::time::advance(TICK_AGE_MAX).await;
        assert!(shown.is_due(&report(Condition::Working, 2)) && !shown.is_due(&report(Condition::Working, 1)));
    }
}

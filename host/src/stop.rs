//! How a loop learns that it should end: first asked to stop at a safe point,
//! then, when its grace is over, to stop where it is.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Asks every [`Stop`] made from it.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Option<Instant>>);

/// Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<Instant>>);

/// A pair whose stop has not been asked for.
#[must_use]
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks to stop within `grace`. Only the first call counts.
    pub fn stop(&self, grace: Duration) {
        self.stop_by(Instant::now() + grace);
    }

    /// Asks to stop, with a grace that ends then. Only the first call counts.
    pub fn stop_by(&self, end: Instant) {
        self.0.send_if_modified(|deadline| {
            let first = deadline.is_none();
            if first {
                *deadline = Some(end);
            }
            first
        });
    }
}

impl Stop {
    /// Whether to stop at the next safe point.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// When the grace is over, if a stop was requested.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Whether to give up what is under way.
    #[must_use]
    pub fn overdue(&self) -> bool {
        self.0.borrow().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns when a stop is requested; never if the stopper is gone without one.
    pub async fn wait(&mut self) {
        if self.0.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns `beyond` after the grace is over; never without a request.
    pub async fn wait_overdue(&mut self, beyond: Duration) {
        self.wait().await;
        let deadline = *self.0.borrow();
        if let Some(deadline) = deadline {
            sleep_until(deadline + beyond).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_is_requested_first_and_overdue_after_its_grace() {
        let (stopper, mut stop) = channel();
        assert!(!stop.requested() && !stop.overdue());
        stopper.stop(Duration::from_secs(3600));
        stopper.stop(Duration::ZERO);
        stop.wait().await;
        assert!(stop.requested() && !stop.overdue());
    }

    #[tokio::test]
    async fn without_grace_a_stop_is_overdue_at_once() {
        let (stopper, mut stop) = channel();
        stopper.stop(Duration::ZERO);
        stop.wait_overdue(Duration::ZERO).await;
        assert!(stop.overdue());
    }
}

//! Work done ahead of who needs its results.

use std::future::Future;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;

use crate::error::{Error, Result};

/// The results of a task of its own, in order, at most so many ahead. Dropping it
/// ends the task at its next point of rest.
#[derive(Debug)]
pub(super) struct Ahead<T> {
    results: Receiver<Result<T>>,
    /// Aborts on drop.
    _task: JoinSet<()>,
}

/// Where the task puts its results.
#[derive(Debug)]
pub(super) struct Outlet<T>(Sender<Result<T>>);

/// Nobody takes results any more.
#[derive(Debug)]
pub(super) struct Closed;

impl<T: Send + 'static> Ahead<T> {
    /// Starts `work`. An error of it is the last result.
    pub(super) fn start<W, F>(results_max: usize, work: W) -> Self
    where
        W: FnOnce(Outlet<T>) -> F,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, results) = mpsc::channel(results_max);
        let work = work(Outlet(sender.clone()));
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(error) = work.await {
                // Nobody is there to hear of it, and nobody needs to.
                let _ = sender.send(Err(error)).await;
            }
        });
        Self { results, _task: task }
    }

    /// The next result; `None` after the last. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<Result<T>> {
        self.results.recv().await
    }
}

impl<T> Outlet<T> {
    /// Waits while there are as many results as may be.
    pub(super) async fn put(&self, result: T) -> std::result::Result<(), Closed> {
        self.0.send(Ok(result)).await.map_err(|_| Closed)
    }
}

/// The task is about to be aborted: this error is never seen.
impl From<Closed> for Error {
    fn from(_: Closed) -> Self {
        Self::bug("results are put where nobody takes them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn results_come_in_order_and_the_error_last() {
        let mut ahead = Ahead::start(2, |outlet| async move {
            for number in 0..10 {
                outlet.put(number).await?;
            }
            Err(Error::stop(Code::StreamRefused, "enough"))
        });
        for number in 0..10 {
            assert_eq!(ahead.next().await.unwrap().unwrap(), number);
        }
        assert_eq!(ahead.next().await.unwrap().unwrap_err().message, "enough");
        assert!(ahead.next().await.is_none());
    }
}

//! Statements under way: sent, and not yet answered.

use std::collections::VecDeque;
use std::future::Future;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::{DatabaseError, Failure};

/// How many statements may be sent before their results are taken.
const STATEMENTS_MAX: usize = 4096;

/// How much of their columns may be under way.
const UNDER_WAY_BYTES_MAX: usize = 64 * 1024 * 1024;

type Answer = Result<u64, Failure>;

#[derive(Default)]
pub(super) struct Pipeline {
    waiting: VecDeque<(usize, JoinHandle<Answer>)>,
    waiting_bytes: usize,
    answers: Vec<Result<u64, DatabaseError>>,
}

impl Pipeline {
    /// `bytes` is about what `answer` holds until it comes.
    pub(super) async fn submit(&mut self, bytes: usize, answer: impl Future<Output = Answer> + Send + 'static) -> Result<(), Failure> {
        if self.waiting.len() + self.answers.len() >= STATEMENTS_MAX {
            return Err(Failure::Misuse(format!("{STATEMENTS_MAX} statements are submitted: settle them first")));
        }
        while self.waiting_bytes + bytes > UNDER_WAY_BYTES_MAX && !self.waiting.is_empty() {
            self.take_one().await?;
        }
        let mut answer = Box::pin(answer);
        // The driver queues the statement when its future is first polled: here, so that
        // statements keep their order. The task then feeds a COPY its data.
        let task = match (&mut answer).now_or_never() {
            Some(answer) => tokio::spawn(std::future::ready(answer)),
            None => tokio::spawn(answer),
        };
        self.waiting.push_back((bytes, task));
        self.waiting_bytes += bytes;
        Ok(())
    }

    pub(super) async fn settle(&mut self) -> Result<Vec<Result<u64, DatabaseError>>, Failure> {
        while !self.waiting.is_empty() {
            self.take_one().await?;
        }
        Ok(std::mem::take(&mut self.answers))
    }

    async fn take_one(&mut self) -> Result<(), Failure> {
        let Some((bytes, answer)) = self.waiting.pop_front() else { return Ok(()) };
        self.waiting_bytes -= bytes;
        let answer = answer.await.map_err(|error| Failure::Unavailable(format!("a statement was not run to its end: {error}")))?;
        self.note(answer)
    }

    fn note(&mut self, answer: Answer) -> Result<(), Failure> {
        self.answers.push(match answer {
            Ok(rows) => Ok(rows),
            Err(Failure::Refused(error)) => Err(error),
            Err(failure) => return Err(failure),
        });
        Ok(())
    }
}

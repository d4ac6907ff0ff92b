//! Statements under way: sent, and not yet answered.

use std::collections::VecDeque;
use std::future::Future;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::failure::{DatabaseError, Failure};
use crate::budget::{Budget, Share};

/// How many statements may be sent before their results are taken.
const STATEMENTS_MAX: usize = 4096;

/// How much of their columns may be under way, in a budget that holds more.
const UNDER_WAY_BYTES_MAX: usize = 64 * 1024 * 1024;

type Answer = Result<u64, Failure>;

pub(super) struct Pipeline {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    answers: Vec<Result<u64, DatabaseError>>,
    /// What the answers take.
    answered: Share,
    budget: Budget,
}

struct Waiting {
    bytes: usize,
    answer: JoinHandle<Answer>,
    _share: Share,
}

impl Pipeline {
    pub(super) fn new(budget: &Budget) -> Self {
        Self { waiting: VecDeque::new(), waiting_bytes: 0, answers: Vec::new(), answered: budget.share(), budget: budget.clone() }
    }

    /// Waits for none of the answers any more; whether there were any.
    pub(super) fn give_up(&mut self) -> bool {
        let is_busy = !self.waiting.is_empty();
        self.waiting.drain(..).for_each(|waiting| waiting.answer.abort());
        is_busy
    }

    /// `bytes` is about what `answer` holds until it comes.
    pub(super) async fn submit(&mut self, bytes: usize, answer: impl Future<Output = Answer> + Send + 'static) -> Result<(), Failure> {
        if self.waiting.len() + self.answers.len() >= STATEMENTS_MAX {
            return Err(Failure::Misuse(format!("{STATEMENTS_MAX} statements are submitted: settle them first")));
        }
        let share = loop {
            if self.waiting_bytes + bytes <= UNDER_WAY_BYTES_MAX || self.waiting.is_empty() {
                match self.budget.take(bytes) {
                    Ok(share) => break share,
                    Err(exceeded) if self.waiting.is_empty() => return Err(exceeded.into()),
                    Err(_) => {}
                }
            }
            self.take_one().await?;
        };
        let mut answer = Box::pin(answer);
        // The driver queues the statement when its future is first polled: here, so that
        // statements keep their order. The task then feeds a COPY its data.
        let task = match (&mut answer).now_or_never() {
            Some(answer) => tokio::spawn(std::future::ready(answer)),
            None => tokio::spawn(answer),
        };
        self.waiting.push_back(Waiting { bytes, answer: task, _share: share });
        self.waiting_bytes += bytes;
        Ok(())
    }

    pub(super) async fn settle(&mut self) -> Result<Vec<Result<u64, DatabaseError>>, Failure> {
        while !self.waiting.is_empty() {
            self.take_one().await?;
        }
        self.answered.shrink(0);
        Ok(std::mem::take(&mut self.answers))
    }

    async fn take_one(&mut self) -> Result<(), Failure> {
        // It stays among those that are waited for until it is there: the call may be given up.
        let Some(first) = self.waiting.front_mut() else { return Ok(()) };
        let answer = (&mut first.answer).await;
        self.waiting_bytes -= first.bytes;
        self.waiting.pop_front();
        let answer = answer.map_err(|error| Failure::Unavailable(format!("a statement was not run to its end: {error}")))?;
        self.note(answer)
    }

    fn note(&mut self, answer: Answer) -> Result<(), Failure> {
        self.answers.push(match answer {
            Ok(rows) => Ok(rows),
            Err(Failure::Refused(error)) => {
                self.answered.grow(error.size())?;
                Err(error)
            }
            Err(failure) => return Err(failure),
        });
        Ok(())
    }
}

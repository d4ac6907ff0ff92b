//! Statements under way: sent, and not yet answered.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio_postgres::{Client, Statement};

use super::parameter::TextArray;
use super::{DatabaseError, Failure, answered};

/// How many statements may be sent before their results are taken.
const STATEMENTS_MAX: usize = 4096;

/// How much of their columns may be under way.
const UNDER_WAY_BYTES_MAX: usize = 64 * 1024 * 1024;

type Answer = Pin<Box<dyn Future<Output = Result<u64, Failure>> + Send>>;

#[derive(Default)]
pub(super) struct Pipeline {
    waiting: VecDeque<(usize, Answer)>,
    waiting_bytes: usize,
    answers: Vec<Result<u64, DatabaseError>>,
}

impl Pipeline {
    pub(super) async fn submit(
        &mut self,
        client: Arc<Client>,
        statement: Statement,
        columns: Vec<Vec<Option<String>>>,
    ) -> Result<(), Failure> {
        if self.waiting.len() + self.answers.len() >= STATEMENTS_MAX {
            return Err(Failure::Misuse(format!("{STATEMENTS_MAX} statements are submitted: settle them first")));
        }
        let bytes = columns.iter().flatten().flatten().map(String::len).sum();
        while self.waiting_bytes + bytes > UNDER_WAY_BYTES_MAX && !self.waiting.is_empty() {
            self.take_one().await?;
        }
        let mut answer: Answer = Box::pin(async move {
            let parameters = columns.iter().map(|column| TextArray(column));
            answered(client.execute_raw(&statement, parameters)).await
        });
        // The statement is sent when its future is first polled, and in this order.
        match (&mut answer).now_or_never() {
            Some(answer) => self.note(answer)?,
            None => {
                self.waiting.push_back((bytes, answer));
                self.waiting_bytes += bytes;
            }
        }
        Ok(())
    }

    pub(super) async fn settle(&mut self) -> Result<Vec<Result<u64, DatabaseError>>, Failure> {
        while !self.waiting.is_empty() {
            self.take_one().await?;
        }
        Ok(std::mem::take(&mut self.answers))
    }

    async fn take_one(&mut self) -> Result<(), Failure> {
        if let Some((bytes, answer)) = self.waiting.pop_front() {
            self.waiting_bytes -= bytes;
            let answer = answer.await;
            self.note(answer)?;
        }
        Ok(())
    }

    fn note(&mut self, answer: Result<u64, Failure>) -> Result<(), Failure> {
        self.answers.push(match answer {
            Ok(rows) => Ok(rows),
            Err(Failure::Refused(error)) => Err(error),
            Err(failure) => return Err(failure),
        });
        Ok(())
    }
}

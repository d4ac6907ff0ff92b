//! Reads one table on a connection of its own, ahead of whoever asks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use proto::row::Row;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::source::{Source, Table, enter};
use super::{copy, held};
use crate::budget::{Budget, Handle};
use crate::error::{Code, Error, Result};
use crate::postgres::connect;
use crate::postgres::lent::Session;

/// A block ends when it holds this much, as the server sends it, or one row.
const BLOCK_BYTES_MAX: usize = 256 * 1024;

/// How many blocks wait for the reader: the server, the conversion and the plugin overlap.
const BLOCKS_AHEAD_MAX: usize = 3;

enum Block {
    Rows(Vec<Row>),
    /// The table has been read to its end; without it, the reader died.
    End,
}

/// Rows of one table, in no particular order.
pub struct Cursor {
    blocks: mpsc::Receiver<Result<Block>>,
    left: VecDeque<Row>,
    ended: bool,
    reader: JoinHandle<()>,
    _handle: Handle,
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").finish_non_exhaustive()
    }
}

impl Cursor {
    pub(super) fn start(source: Arc<Source>, table: Table, lock_timeout: Duration, budget: Budget, handle: Handle) -> Self {
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD_MAX);
        let reader = tokio::spawn(async move {
            let relation = &table.relation;
            let end = read(&source, &table, lock_timeout, &budget, &sender).await.map(|()| Block::End);
            let end = end.map_err(|error| error.context(format!("cannot read the table {}.{}", relation.schema, relation.table)));
            // Nobody listens when the cursor was dropped.
            let _ = sender.send(end).await;
        });
        Self { blocks, left: VecDeque::new(), ended: false, reader, _handle: handle }
    }

    /// The next rows, at most `max_rows` and about 256 KiB of them; empty at the end.
    pub async fn fetch(&mut self, max_rows: usize) -> Result<Vec<Row>> {
        while self.left.is_empty() && !self.ended {
            match self.blocks.recv().await {
                Some(block) => match block? {
                    Block::Rows(rows) => self.left = rows.into(),
                    Block::End => self.ended = true,
                },
                None => return Err(Error::bug("the reader of a table ended without a word")),
            }
        }
        if self.left.len() <= max_rows {
            return Ok(std::mem::take(&mut self.left).into());
        }
        Ok(self.left.drain(..max_rows.max(1)).collect())
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(source: &Source, table: &Table, lock_timeout: Duration, budget: &Budget, blocks: &mpsc::Sender<Result<Block>>) -> Result<()> {
    let mut session = Session::connect(&source.dsn, &source.application, budget).await?;
    // Dropped before the end of the table, it ends what the server sends.
    session.is_busy = true;
    let rows = rows(&session, source, table, lock_timeout, blocks).await;
    session.is_busy = rows.is_err();
    rows.map_err(|error| session.refusal().map_or(error, |refusal| Error::stop(Code::PluginLimit, refusal)))
}

async fn rows(
    session: &Session,
    source: &Source,
    table: &Table,
    lock_timeout: Duration,
    blocks: &mpsc::Sender<Result<Block>>,
) -> Result<()> {
    let explain = |error: tokio_postgres::Error| connect::explain(&error);
    let client = session.client();
    enter(&client, Some(&source.snapshot)).await?;
    let held = held::hold(&client, table, lock_timeout).await?;
    let types: Vec<u32> = table.relation.columns.iter().map(|column| column.type_oid).collect();
    let (mut block, mut bytes) = (Vec::new(), 0);
    for statement in &held.statements {
        let mut lines = std::pin::pin!(client.copy_out(statement.as_str()).await.map_err(|error| held::altered(&error))?);
        // The server sends one message per row: see "COPY Operations" on PostgreSQL's page "Message Flow".
        while let Some(line) = lines.try_next().await.map_err(explain)? {
            block.push(copy::row(&line, &types).map_err(|reason| Error::stop(Code::EventUndecodable, reason))?);
            bytes += line.len();
            if bytes >= BLOCK_BYTES_MAX {
                if blocks.send(Ok(Block::Rows(std::mem::take(&mut block)))).await.is_err() {
                    return Err(Error::stop(Code::Abandoned, "nobody reads on"));
                }
                bytes = 0;
            }
        }
    }
    held.check(&client).await?;
    if !block.is_empty() {
        let _ = blocks.send(Ok(Block::Rows(block))).await;
    }
    Ok(())
}

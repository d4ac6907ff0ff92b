//! Reads the events of a batch, and decodes them, beside the loop that publishes.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use proto::batch::Batch;
use proto::row::Mutation;
use tokio::sync::mpsc;

use super::session::{Settings, answer, session};
use super::sql;
use crate::error::{Code, Error, Result};
use crate::postgres::connect::{self, Session};
use crate::postgres::event::relation::{Described, Descriptor};
use crate::postgres::event::value::Encoding;
use crate::postgres::event::{Decoded, Decoder, Event, Undecodable, Unknown};

/// About how many bytes of events make a chunk.
const CHUNK_BYTES: usize = 256 << 10;

/// `pg_type.oid` of text.
const TEXT: u32 = 25;

/// A part of the open batch.
#[derive(Debug)]
pub enum Chunk {
    Mutations(Vec<Mutation>),
    /// The last of the batch.
    Failed(Error),
}

/// The session that reads, and what it has learned of the set's tables.
#[derive(Debug)]
pub struct Reader {
    settings: Arc<Settings>,
    session: Session,
    /// The queue's id.
    queue: i32,
    /// For the catalogs, since `session` is busy with the events.
    control: Arc<Session>,
    decoder: Decoder,
}

impl Reader {
    pub async fn connect(settings: Arc<Settings>, queue: i32, control: Arc<Session>) -> Result<Self> {
        let session = session(&settings, "reader").await?;
        Ok(Self { settings, session, queue, control, decoder: Decoder::default() })
    }

    /// Reads a batch into `chunks`, as fast as they are taken. To be dropped after a failure.
    pub async fn read(mut self: Box<Self>, batch: Batch, chunks: mpsc::Sender<Chunk>) -> Box<Self> {
        if let Err(error) = self.stream(&batch, &chunks).await {
            // Nobody listens: the batch was given up.
            let _ = chunks.send(Chunk::Failed(error)).await;
        }
        self
    }

    async fn stream(&mut self, batch: &Batch, chunks: &mpsc::Sender<Chunk>) -> Result<()> {
        let events = self.session.copy_out(&sql::copy(self.queue, &batch.start.snapshot, &batch.end.snapshot)).await;
        let batch = batch.id;
        let mut events = pin!(events.map_err(|error| reading(batch, &error))?);
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while let Some(row) = events.next().await {
            let row: Bytes = row.map_err(|error| reading(batch, &error))?;
            let Some(event) = Event::parse(&row).map_err(|cause| stop(self.queue, cause))? else { break };
            chunk.push(self.decode(&event).await?);
            bytes += row.len();
            if bytes >= CHUNK_BYTES {
                let room = chunk_rows(chunk.len());
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(room));
                bytes = 0;
                if chunks.send(Chunk::Mutations(full)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if !chunk.is_empty() {
            // Nobody listens: the batch was given up.
            let _ = chunks.send(Chunk::Mutations(chunk)).await;
        }
        // What is still to come is the server's word that all went well.
        match events.next().await {
            None => Ok(()),
            Some(Err(error)) => Err(reading(batch, &error)),
            Some(Ok(_)) => Err(Error::bug(format!("COPY of batch {batch} goes on after its end"))),
        }
    }

    async fn decode(&mut self, event: &Event<'_>) -> Result<Mutation> {
        // An event asks for its table, then for its shape or what identifies its rows.
        for _ in 0..3 {
            match self.decoder.decode(event).map_err(|cause| stop(self.queue, cause))? {
                Decoded::Mutation(mutation) => return Ok(mutation),
                Decoded::Unknown(unknown) => self.learn(event.id, unknown).await?,
            }
        }
        Err(Error::bug(format!("event {} of table {} stays unknown", event.id, event.table)))
    }

    async fn learn(&mut self, event: u64, unknown: Unknown) -> Result<()> {
        match unknown {
            Unknown::Relation { version, table } => {
                let descriptor = self.relation(event, &version, &table).await?;
                self.decoder.learn(&version, &table, Arc::new(descriptor));
            }
            Unknown::Shape { version, table, columns } => {
                let known = self.decoder.relation(&version, &table).ok_or_else(|| Error::bug(format!("table {table} is not known")))?;
                let found = self.columns(&table, known.unknown(&columns)).await?;
                let reshaped = known.reshape(&columns, &found);
                let reshaped =
                    reshaped.map_err(|cause| stop(self.queue, Undecodable { event: Some(event), table: Some(table.clone()), cause }))?;
                tracing::info!(%table, %version, columns = columns.len(), "the table's columns differ from those of the configuration that captures it");
                self.decoder.learn(&version, &table, Arc::new(reshaped));
            }
            Unknown::Identity { table } => {
                let statement = sql::identity(&self.settings.cluster);
                let row = answer(self.control.query_opt(&statement, &[&self.settings.set, &table])).await?;
                let identity: Vec<String> = row.map(|row| row.get(0)).unwrap_or_default();
                tracing::warn!(%table, ?identity, "a column that identified the table's rows was dropped: those of the present configuration are to take its place");
                self.decoder.identify(&table, identity);
            }
        }
        Ok(())
    }

    /// What the configuration's version `version` says of `table`.
    async fn relation(&self, event: u64, version: &str, table: &str) -> Result<Descriptor> {
        let undecodable = |cause: String| stop(self.queue, Undecodable { event: Some(event), table: Some(table.to_owned()), cause });
        let statement = sql::relation(&self.settings.cluster);
        let row = answer(self.control.query_opt(&statement, &[&self.settings.set, &version, &table])).await?;
        let row = row.ok_or_else(|| {
            undecodable(format!(
                "pgshovel_{}.relations does not describe it in version {version:?} of set {:?}",
                self.settings.cluster, self.settings.set
            ))
        })?;
        let columns: &str = row.get(2);
        let columns: Vec<Described> =
            serde_json::from_str(columns).map_err(|error| undecodable(format!("its description is not valid: {error}")))?;
        let identity: Vec<String> = row.get(3);
        Descriptor::new(row.get(0), row.get(1), version, columns, &identity).map_err(undecodable)
    }

    /// What the catalog says of columns that were added to `table`. One that is
    /// gone again is read as text.
    async fn columns(&self, table: &str, names: Vec<String>) -> Result<HashMap<String, Described>> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = answer(self.control.query(sql::COLUMNS, &[&table, &names])).await?;
        let described =
            |name: String, type_name: String, oid: u32| (name.clone(), Described { name, type_name, oid, encoding: Encoding::Json });
        let mut found: HashMap<String, Described> = rows.iter().map(|row| described(row.get(0), row.get(1), row.get(2))).collect();
        for name in names {
            if !found.contains_key(&name) {
                tracing::warn!(%table, column = %name, "the column was added and is gone again: its values are relayed as text");
                found.extend([described(name, "text".to_owned(), TEXT)]);
            }
        }
        Ok(found)
    }
}

/// Room for a chunk like the last one, and a little more.
fn chunk_rows(last: usize) -> usize {
    last + last / 8
}

fn reading(batch: u64, error: &tokio_postgres::Error) -> Error {
    connect::explain(error).context(format!("cannot read batch {batch}"))
}

/// What a person may do about it is to remove the event.
fn stop(queue: i32, undecodable: Undecodable) -> Error {
    let remedy = match undecodable.event {
        Some(id) => {
            format!("; if it was not a trigger of the set that wrote it, remove it: DELETE FROM pgq.event_{queue} WHERE ev_id = {id}")
        }
        None => String::new(),
    };
    Error::stop(Code::EventUndecodable, format!("{undecodable}{remedy}"))
}

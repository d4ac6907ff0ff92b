//! The bootstrap: a loader's rows into an empty target, as one commit.
//!
//! The rows are what snapshot S sees. The set's consumer was registered when the
//! set was created, so before S; the stream holds all that came since, and the
//! reader that starts from the state stored here skips what S contains.

use std::sync::Arc;

use proto::batch::version;
use proto::row::{Change, Mutation, Relation};

use super::ahead::Ahead;
use super::progress::{Phase, Progress};
use super::state;
use crate::error::{Code, Error, Result};
use crate::ports::opening::Origin;
use crate::ports::{Chunk, Loader, Target, Transform};
use crate::stop::Stop;

/// What one call of the loader may return.
const CHUNK_ROWS_MAX: u32 = 2000;

/// Chunks that may wait for the target.
const CHUNKS_AHEAD_MAX: usize = 2;

/// Loads the target and stores the state of a bootstrap in place of `expected`.
/// Returns the state as stored, or `None` if `stop` was requested before the end:
/// then the target is as it was.
///
/// After an error the ports are of no more use, and the target is as it was,
/// unless the error came with the commit.
pub async fn bootstrap<L: Loader + 'static>(
    (origin, loader): (Origin, L),
    target: &mut impl Target,
    transforms: &mut [impl Transform],
    expected: Option<&[u8]>,
    stop: &mut Stop,
    progress: &mut Progress,
) -> Result<Option<Vec<u8>>> {
    progress.enter(Phase::Bootstrap);
    // A state that is not readable is about to be replaced, and tells of no version.
    let replaced = expected.and_then(|bytes| state::decode(bytes).ok());
    let version = version::of_bootstrap(origin.opened_us, replaced.as_ref());
    let mut chunks = read(loader);
    let mut loading = Loading { target, transforms, version, progress, last: None };
    loop {
        let chunk = tokio::select! {
            biased;
            () = stop.wait() => {
                loading.target.rollback().await?;
                return Ok(None);
            }
            chunk = chunks.next() => chunk,
        };
        match chunk {
            Some(chunk) => loading.load(chunk?).await?,
            None => break,
        }
    }
    loading.progress.loaded();
    let state = state::encode(&state::bootstrapped(origin, version));
    target.commit(expected, &state).await?;
    progress.stored();
    Ok(Some(state))
}

fn read<L: Loader + 'static>(mut loader: L) -> Ahead<Chunk> {
    Ahead::start(CHUNKS_AHEAD_MAX, |outlet| async move {
        while let Some(chunk) = loader.next(CHUNK_ROWS_MAX).await? {
            outlet.put(chunk).await?;
        }
        Ok(())
    })
}

struct Loading<'a, T, X> {
    target: &'a mut T,
    transforms: &'a mut [X],
    /// Of all rows.
    version: u64,
    progress: &'a mut Progress,
    /// The relation of the chunk before.
    last: Option<Arc<Relation>>,
}

impl<T: Target, X: Transform> Loading<'_, T, X> {
    async fn load(&mut self, chunk: Chunk) -> Result<()> {
        let (relation, rows, estimated) = (Arc::clone(&chunk.relation), chunk.rows.len() as u64, chunk.estimated_rows);
        let first = self.last.as_ref() != Some(&relation);
        self.put(chunk, first).await.map_err(|error| error.context(format!("table {}.{}", relation.schema, relation.table)))?;
        // A table that is named without rows is not loaded yet.
        if rows > 0 {
            self.progress.load(&relation, rows, estimated);
        }
        self.last = Some(relation);
        Ok(())
    }

    async fn put(&mut self, chunk: Chunk, first: bool) -> Result<()> {
        if self.transforms.is_empty() {
            return self.target.load(chunk, self.version).await;
        }
        let mut mutations = mutations(chunk, first, self.version);
        for transform in &mut *self.transforms {
            mutations = transform.transform(mutations).await?;
        }
        for chunk in chunks(mutations)? {
            self.target.load(chunk, self.version).await?;
        }
        Ok(())
    }
}

/// What transforms see of a chunk. A truncate stands before the first row of a
/// table, so that they name the table even if it has no rows.
fn mutations(chunk: Chunk, first: bool, version: u64) -> Vec<Mutation> {
    let Chunk { relation, rows, estimated_rows: _ } = chunk;
    let truncate = first.then_some(Change::Truncate);
    let changes = truncate.into_iter().chain(rows.into_iter().map(Change::Insert));
    changes.map(|change| Mutation { id: 0, relation: Arc::clone(&relation), change, transaction: 0, timestamp_us: 0, version }).collect()
}

/// What transforms made of a chunk, by relation.
fn chunks(mutations: Vec<Mutation>) -> Result<Vec<Chunk>> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for Mutation { relation, change, .. } in mutations {
        let same = |chunk: &&mut Chunk| Arc::ptr_eq(&chunk.relation, &relation) || chunk.relation == relation;
        // The last one is the one, mostly.
        let found = chunks.iter_mut().rev().find(same);
        let row = match change {
            Change::Insert(row) => Some(row),
            Change::Truncate => None,
            Change::Update { .. } | Change::Delete(_) => {
                return Err(Error::stop(
                    Code::BootstrapChanged,
                    format!(
                        "a transform made an update or a delete of a row of the bootstrap, for table {}.{}: it may drop, change and rename inserts",
                        relation.schema, relation.table
                    ),
                ));
            }
        };
        match found {
            Some(chunk) => chunk.rows.extend(row),
            None => chunks.push(Chunk { relation, rows: row.into_iter().collect(), estimated_rows: None }),
        }
    }
    Ok(chunks)
}

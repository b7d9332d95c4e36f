//! Feeds the rows that are not settled to the engine: one thread reads, unzips and decodes, a few batches ahead.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::source::{blocking, local_part};
use super::spec::ShardFile;
use crate::engine::Rows;
use crate::error::Error;
use crate::journal::Replay;
use crate::manifest::{Prepared, RowReader};
use crate::object::ManifestEntry;
use crate::s3::S3;
use crate::stall::Stall;

/// Rows that are handed over at once.
const BATCH_ROWS: usize = 256;
/// Batches that wait for the engine.
const BATCHES_MAX: usize = 16;

/// Starts reading. The rows end with the first error, or when the receiver is dropped.
pub fn start(s3: S3, stall: Stall, state: &Path, job: Arc<ShardFile>, before: Arc<Replay>) -> Rows {
    let (sender, rows) = mpsc::channel(BATCHES_MAX);
    let state = state.to_owned();
    tokio::spawn(async move {
        if let Err(error) = read_all(&s3, &stall, &state, job, before, &sender).await {
            // The engine may be gone already; then nobody needs to know.
            let _ = sender.send(Err(error)).await;
        }
    });
    rows
}

type Sender = mpsc::Sender<Result<Vec<ManifestEntry>, Error>>;

async fn read_all(
    s3: &S3,
    stall: &Stall,
    state: &Path,
    job: Arc<ShardFile>,
    before: Arc<Replay>,
    sender: &Sender,
) -> Result<(), Error> {
    let first_needed = before.settled.lowest_missing();
    for (index, part) in job.parts.iter().enumerate() {
        let end = job.prepared.first_row(index) + job.prepared.parts[index].own_rows;
        if end <= first_needed || sender.is_closed() {
            continue;
        }
        let path = local_part(s3, stall, part, index, state).await?;
        let (job, before, sender) = (Arc::clone(&job), Arc::clone(&before), sender.clone());
        blocking(move || read_part(&path, &job.prepared, index, &before, &sender)).await??;
    }
    Ok(())
}

fn read_part(
    path: &Path,
    prepared: &Prepared,
    index: usize,
    before: &Replay,
    sender: &Sender,
) -> Result<(), Error> {
    let mut reader = RowReader::open(path, prepared, index)?;
    let mut settled = before.settled.cursor();
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    loop {
        reader.skip_rows_while(|row| settled.contains(row))?;
        let Some(entry) = reader.next().transpose()? else {
            break;
        };
        batch.push(entry);
        if batch.len() == BATCH_ROWS {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ROWS));
            if sender.blocking_send(Ok(full)).is_err() {
                return Ok(());
            }
        }
    }
    if !batch.is_empty() {
        let _ = sender.blocking_send(Ok(batch));
    }
    Ok(())
}

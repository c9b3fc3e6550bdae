//! Writes a batch, once: what broke is looked up, or written again where it did not count.
//!
//! A connection that breaks before an answer leaves it open whether a commit counts. The session behind it is ended first, so that
//! this is settled. A transaction of several statements was told its number before it could count, and what became of
//! that is asked. A single statement is sent again: it says what rows are from now on, not what is added to them, and what it adds, it
//! adds once.

use super::{Batch, columns::Columns, extras};
use crate::{
    Error,
    journal::{Journal, Writer},
};
use domain::id::{RunId, TriggerId};
use tokio_postgres::{Row, SimpleQueryMessage};
use uuid::Uuid;

/// Sessions that break one after the other under the same batch, before everything is loaded again.
const TRIES_MAX: u32 = 5;
/// A transaction, and its number, which it has for as long as anybody may ask.
const BEGIN: &str = "BEGIN; SELECT pg_current_xact_id()";

/// What the database made of a batch.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// Of the batch's shards, those that were still owned. Nothing of the others was written.
    pub shards: Vec<i16>,
    /// Of the new runs, those whose logical key was new, and whose pipeline is as they were made from, if that is asked of them.
    /// When there are any, this commit and all before it are durable.
    pub created: Vec<RunId>,
    /// Sessions that broke under it, and the one that had before it, if there was one.
    pub broken: u32,
    /// Triggers whose decisions were not written, because another version is in force by now, or will be in a moment.
    pub overtaken: Vec<TriggerId>,
}

/// Writes a batch in one transaction; one statement and one commit where only runs and units change. It counts when this
/// returns, and is durable after the journal's next flush.
///
/// What triggers decided whose version is no longer in force is left out of it: see [`Committed::overtaken`].
///
/// # Errors
/// When the database refuses, which leaves nothing written; or when it does not answer. Then nobody knows whether the batch
/// counts, and the journal is lost: raise the epochs (`shards::retake`) and load again, with another one. The same where
/// it is dropped before it is done.
pub async fn commit(journal: &mut Journal, batch: &mut Batch) -> Result<Committed, Error> {
    if journal.is_lost() {
        return Err(Error::Interrupted);
    }
    let mut attempt = Attempt { has_broken: journal.has_lost_writer(), ..Attempt::default() };
    let mut broken = u32::from(attempt.has_broken);
    loop {
        // On the heap: it is large, and each of those who wait for it would keep room for it.
        let error = match Box::pin(attempt.once(journal, batch)).await {
            Ok(committed) => {
                journal.settle();
                return Ok(Committed { broken, ..committed });
            }
            Err(error) => error,
        };
        attempt.has_broken |= error.ends_session() || journal.has_lost_writer();
        if !attempt.has_broken {
            // What an earlier session may have written is not undone by what this one refuses.
            if broken == 0 {
                journal.settle();
            }
            return Err(error);
        }
        broken += 1;
        if broken >= TRIES_MAX || matches!(error, Error::Interrupted) {
            return Err(error);
        }
    }
}

/// How far the writing of a batch has come.
#[derive(Default)]
struct Attempt {
    /// The journal's writer is of no use any more.
    has_broken: bool,
    /// Of the transaction that may have written it.
    transaction: Option<String>,
    /// A single statement may have written it.
    may_be_written: bool,
    overtaken: Vec<TriggerId>,
}

impl Attempt {
    async fn once(&mut self, journal: &mut Journal, batch: &mut Batch) -> Result<Committed, Error> {
        let was_broken = self.has_broken;
        let found = if was_broken { self.mend(journal, batch).await? } else { None };
        let committed = match found {
            Some(found) => found,
            None => self.write(journal.doubt(), batch).await?,
        };
        if was_broken && !committed.created.is_empty() {
            // Who commits waits for the disk, but who is ended meanwhile does not wait for standbys.
            journal.flusher().flush().await?;
        }
        Ok(committed)
    }

    /// Another writer in place of the one that broke, and what the former one came to, if it has written the batch.
    async fn mend(&mut self, journal: &mut Journal, batch: &Batch) -> Result<Option<Committed>, Error> {
        journal.replace_writer().await?;
        self.has_broken = false;
        self.look_up(journal.writer(), batch).await
    }

    /// What came of the transaction that may have written it, if there is one and it has.
    async fn look_up(&mut self, writer: &Writer, batch: &Batch) -> Result<Option<Committed>, Error> {
        if self.transaction.is_none() {
            return Ok(None);
        }
        let row = self.outcome(writer, batch).await?;
        match row.get("status") {
            Some("committed") => Ok(Some(self.committed(&row))),
            Some("aborted") => {
                self.transaction = None;
                Ok(None)
            }
            _ => Err(Error::Interrupted),
        }
    }

    async fn outcome(&self, writer: &Writer, batch: &Batch) -> Result<Row, Error> {
        let (shards, epochs): (Vec<i16>, Vec<i64>) = batch.shards.iter().unzip();
        let created: Vec<Uuid> = batch.new.iter().map(|(run, _)| run.id.0).collect();
        let Writer { client, statements, .. } = writer;
        Ok(client.query_one(&statements.outcome, &[&self.transaction, &shards, &epochs, &created]).await?)
    }

    async fn write(&mut self, writer: &Writer, batch: &mut Batch) -> Result<Committed, Error> {
        if batch.is_plain() {
            return self.write_at_once(writer, batch).await;
        }
        let written = Box::pin(self.transact(writer, batch)).await;
        if written.is_err() {
            // Nothing is left open for whoever writes next. Where the session has ended, so has its transaction.
            let _ = writer.client.batch_execute("ROLLBACK").await;
        }
        written
    }

    async fn write_at_once(&mut self, writer: &Writer, batch: &Batch) -> Result<Committed, Error> {
        let Writer { client, statements, .. } = writer;
        let is_again = std::mem::replace(&mut self.may_be_written, true);
        let columns = Columns::of(batch);
        let row = if !batch.is_units_only() {
            client.query_one(&statements.commit, &columns.parameters()).await?
        } else if let Some(step) = columns.step_parameters() {
            client.query_one(&statements.commit_step, &step).await?
        } else {
            client.query_one(&statements.commit_units, &columns.unit_parameters()).await?
        };
        let mut committed = self.committed(&row);
        if is_again && !batch.new.is_empty() {
            // What was there already is not created by it, and may be its own.
            committed.created = created(&self.outcome(writer, batch).await?);
        }
        Ok(committed)
    }

    /// Two ways there and back, however much there is to write: what the guard leaves out must be known before the rest is
    /// sent, and nothing else waits for an answer. What is polled first is sent first. A statement that is refused spoils
    /// those behind it, and its error is what is answered: the commit at the end then ends the transaction and writes nothing.
    async fn transact(
        &mut self,
        Writer { client, statements, .. }: &Writer,
        batch: &mut Batch,
    ) -> Result<Committed, Error> {
        let begin = async { Ok(client.simple_query(BEGIN).await?) };
        let (begun, overtaken) = tokio::try_join!(biased; begin, extras::guard(client, statements, batch))?;
        batch.drop_overtaken(&overtaken);
        self.overtaken.extend(overtaken);
        // Before it is known, nothing was sent that makes it count.
        self.transaction = Some(begun.iter().find_map(number_of).ok_or(Error::Interrupted)?);
        let columns = Columns::of(batch);
        let parameters = columns.parameters();
        let rows = async { Ok(client.query_one(&statements.commit, &parameters).await?) };
        let commit = async { Ok(client.batch_execute("COMMIT").await?) };
        let ((), row, (), (), (), (), (), (), ()) = tokio::try_join!(
            biased;
            extras::drop_children(client, statements, batch),
            rows,
            extras::decide(client, statements, batch),
            extras::backfills(client, statements, batch),
            extras::miss_sla(client, statements, batch),
            extras::retry(client, statements, batch),
            extras::repeat(client, statements, batch),
            extras::tell_lost(client, statements, batch),
            commit,
        )?;
        Ok(self.committed(&row))
    }

    fn committed(&self, row: &Row) -> Committed {
        Committed { shards: row.get("shards"), created: created(row), broken: 0, overtaken: self.overtaken.clone() }
    }
}

fn created(row: &Row) -> Vec<RunId> {
    row.get::<_, Vec<Uuid>>("created").into_iter().map(RunId).collect()
}

/// Of a transaction, in the answer to what begins it.
fn number_of(answer: &SimpleQueryMessage) -> Option<String> {
    let SimpleQueryMessage::Row(row) = answer else { return None };
    row.get(0).map(str::to_owned)
}

//! How much a project may put into the store of files: its deployments' files, each once, and its models. Refuses to know
//! where bytes lie.

use crate::core::Core;
use crate::fault::Fault;
use domain::ErrorKind;
use domain::id::ProjectId;
use proto::v1::FileHeader;
use std::sync::Arc;
use store::{Transaction, project_files};
use tonic::Status;

/// Counts files that a project is about to store, or uses that others have stored. What it holds already costs nothing,
/// also where it holds too much.
///
/// Answers the bytes that were not counted before.
///
/// # Errors
/// When it would hold more than it may; then the transaction must not be committed.
pub(crate) async fn charge(
    core: &Core,
    db: &Transaction<'_>,
    project: ProjectId,
    files: &[(&str, i64)],
) -> Result<i64, Fault> {
    let fresh = project_files::charge(db, project, files).await?;
    if fresh > 0 {
        check(core, db, project, fresh).await?;
    }
    Ok(fresh)
}

/// A file that was counted before it came, until it is stored. Dropped before that, however its upload ended, it stops being
/// counted; only the end of this process in that moment leaves it counted, until it comes again.
pub(crate) struct Coming(Option<File>);

struct File {
    core: Arc<Core>,
    project: ProjectId,
    header: FileHeader,
    /// Whether this upload counted it, and not one before it or beside it.
    fresh: bool,
}

impl Coming {
    /// Counts it.
    ///
    /// # Errors
    /// As [`charge`]; then nothing is counted.
    pub(crate) async fn count(core: &Arc<Core>, project: ProjectId, header: &FileHeader) -> Result<Self, Fault> {
        let (core, header) = (Arc::clone(core), header.clone());
        let mut file = File { core, project, header, fresh: false };
        file.fresh = file.charge(true).await?;
        Ok(Self(Some(file)))
    }

    /// It is stored. An upload beside this one that had counted it may have failed, and have stopped counting it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn stored(mut self) -> Result<(), Fault> {
        match self.0.take().filter(|file| !file.fresh) {
            Some(file) => file.charge(false).await.map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let Some(file) = self.0.take().filter(|file| file.fresh) else { return };
        tokio::spawn(async move {
            if let Err(error) = file.give_back().await {
                let (project, sha256) = (file.project, &file.header.sha256);
                tracing::warn!(%project, sha256, error = %Status::from(error), "a file that did not come stays counted");
            }
        });
    }
}

impl File {
    /// Whether it was not counted before.
    async fn charge(&self, checked: bool) -> Result<bool, Fault> {
        let mut db = self.core.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let files = [(self.header.sha256.as_str(), self.header.size_bytes)];
        let fresh = if checked {
            charge(&self.core, &transaction, self.project, &files).await?
        } else {
            // It lies there, whoever pays. One that is giving it back has looked before that, and ends first.
            project_files::charge(&transaction, self.project, &[]).await?;
            project_files::charge(&transaction, self.project, &files).await?
        };
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(fresh > 0)
    }

    /// What somebody else has stored meanwhile stays counted: whoever else relies on the row did so before.
    async fn give_back(&self) -> Result<(), Fault> {
        let mut db = self.core.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        project_files::charge(&transaction, self.project, &[]).await?;
        let FileHeader { sha256, size_bytes } = &self.header;
        if self.core.blobs.has_many(&[sha256]).await? == [false] {
            project_files::give_back(&transaction, self.project, sha256, *size_bytes).await?;
            transaction.commit().await.map_err(store::Error::from)?;
        }
        Ok(())
    }
}

/// As [`charge`], for the upload of a model, whose row says how large it is: it must be there already.
///
/// # Errors
/// As [`charge`].
pub(crate) async fn charge_model(
    core: &Core,
    db: &Transaction<'_>,
    project: ProjectId,
    size_bytes: i64,
) -> Result<(), Fault> {
    project_files::charge(db, project, &[]).await?;
    check(core, db, project, size_bytes).await
}

async fn check(core: &Core, db: &Transaction<'_>, project: ProjectId, fresh: i64) -> Result<(), Fault> {
    let (used, limit) = (project_files::used(db, project).await?, core.limits.project_bytes);
    if used.bytes.cast_unsigned() <= limit {
        return Ok(());
    }
    let message = format!(
        "project `{}` holds {} bytes of files and models of at most {limit}, and this would add {fresh}; leave out data \
         by .orreryignore, use another project, or ask an operator to raise `limits.project_bytes`",
        used.project,
        used.bytes - fresh
    );
    Err(Fault::new(ErrorKind::ResourceExhausted, "PROJECT_STORAGE_FULL", message))
}

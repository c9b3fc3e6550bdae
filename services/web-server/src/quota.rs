//! How much a project may put into the store of files: its deployments' files, each once, and its models. Refuses to know
//! where bytes lie.

use crate::core::Core;
use crate::fault::Fault;
use domain::ErrorKind;
use domain::id::ProjectId;
use store::{Transaction, project_files};

/// Counts files that a project is about to store, or uses that others have stored. What it holds already costs nothing,
/// also where it holds too much.
///
/// # Errors
/// When it would hold more than it may; then the transaction must not be committed.
pub(crate) async fn charge(
    core: &Core,
    db: &Transaction<'_>,
    project: ProjectId,
    files: &[(&str, i64)],
) -> Result<(), Fault> {
    match project_files::charge(db, project, files).await? {
        0 => Ok(()),
        fresh => check(core, db, project, fresh).await,
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

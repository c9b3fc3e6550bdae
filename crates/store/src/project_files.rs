//! What projects have put into the store of files. Refuses to know how much they may, and what any file is.

use crate::{Error, Transaction, query};
use domain::id::ProjectId;

/// What a project holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Its name.
    pub project: String,
    /// Files of deployments, versions of models, and uploads of models as announced.
    pub bytes: i64,
}

/// Counts files for a project, each digest once, however often it comes; answers the bytes of those that were not counted
/// before. Until the transaction ends, nobody else charges that project.
///
/// # Errors
/// When the statement fails.
pub async fn charge(db: &Transaction<'_>, project: ProjectId, files: &[(&str, i64)]) -> Result<i64, Error> {
    let (digests, sizes): (Vec<&str>, Vec<i64>) = files.iter().copied().unzip();
    let sql = include_str!("../sql/project_file/charge.sql");
    Ok(query::one(db, sql, &[&project.0, &digests, &sizes]).await?.get(0))
}

/// Stops to count a file of this size that is not in the store. Call it after [`charge`], in the same transaction, and find out
/// between the two whether it is there.
///
/// # Errors
/// When the statement fails.
pub async fn give_back(db: &Transaction<'_>, project: ProjectId, digest: &str, size_bytes: i64) -> Result<(), Error> {
    let parameters: query::Parameters<'_> = &[&project.0, &digest, &size_bytes];
    query::execute(db, include_str!("../sql/project_file/give_back.sql"), parameters).await?;
    Ok(())
}

/// What a project holds. Call it after [`charge`], in the same transaction, for an answer that stays true until its end.
///
/// # Errors
/// When the statement fails.
pub async fn used(db: &Transaction<'_>, project: ProjectId) -> Result<Use, Error> {
    let row = query::one(db, include_str!("../sql/project_file/use.sql"), &[&project.0]).await?;
    Ok(Use { bytes: row.get(0), project: row.get(1) })
}

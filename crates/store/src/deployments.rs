//! Which bundle a workspace runs from. Refuses to know what a bundle holds.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::WorkspaceId;
use jiff::Timestamp;

/// What is known of a bundle besides its files.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The project folder's own name.
    pub project_name: String,
    /// How many files.
    pub file_count: i32,
    /// Their sizes together.
    pub size_bytes: i64,
}

/// Records a bundle; a known one is left as it is.
///
/// # Errors
/// When the statement fails.
pub async fn insert_bundle(db: &impl GenericClient, bundle: &Bundle) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../sql/bundle/insert.sql")).await?;
    let Bundle { digest, project_name, file_count, size_bytes } = bundle;
    db.execute(&statement, &[digest, project_name, file_count, size_bytes]).await?;
    Ok(())
}

/// Puts a bundle into force and answers since when it is.
///
/// # Errors
/// When the statement fails.
pub async fn deploy(db: &impl GenericClient, workspace: WorkspaceId, digest: &str) -> Result<Timestamp, Error> {
    let statement = db.prepare_cached(include_str!("../sql/workspace/deploy.sql")).await?;
    Ok(db.query_one(&statement, &[&workspace.0, &digest]).await?.get(0))
}

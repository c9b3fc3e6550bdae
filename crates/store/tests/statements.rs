//! Every statement fits the schema: a column that was renamed is found here, not by the first caller.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::{
    fs,
    path::{Path, PathBuf},
};
use store::Store;
use testkit::Database;

fn statements(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(statements(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let database =
        Database::migrated(&here.join("../../migrations"), |url| async move { Store::migrate(&url).await }).await;
    let client = database.client().await;
    let files = statements(&here.join("sql"));
    assert!(files.len() > 30, "found only {} statements", files.len());
    for file in files {
        let sql = fs::read_to_string(&file).unwrap();
        let code = sql.lines().find(|line| !line.starts_with("--")).unwrap_or_default();
        // An anonymous block cannot be prepared; running it is its test.
        let outcome = match code.starts_with("DO ") {
            true => client.batch_execute(&sql).await,
            false => client.prepare(&sql).await.map(drop),
        };
        assert!(outcome.is_ok(), "{}: {}", file.display(), outcome.unwrap_err());
    }
}

//! Every statement fits the schema: a column that was renamed is found here, not by the first caller.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use domain::id::SchedulerId;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use store::{
    Store,
    schedulers::{self, Load},
};
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

#[tokio::test]
async fn what_schedulers_say_of_their_load_is_added_up_as_it_was_said() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let database =
        Database::migrated(&here.join("../../migrations"), |url| async move { Store::migrate(&url).await }).await;
    let store = Store::connect(database.url(), 2).await.unwrap();
    let load = Load {
        ready_units: 10,
        running_units: 20,
        ready_units_kubernetes: 3,
        running_units_kubernetes: 4,
        busy_permille: 50,
    };
    for _ in 0..2 {
        let scheduler = SchedulerId(uuid::Uuid::now_v7());
        // Told for the first time, and anew.
        for load in [Load::default(), load] {
            schedulers::renew(&store, scheduler, Duration::from_secs(60), "", load).await.unwrap();
        }
    }
    let sum = schedulers::sum_load(&store).await.unwrap();
    let units = (sum.ready_units, sum.running_units, sum.ready_units_kubernetes, sum.running_units_kubernetes);
    assert_eq!((sum.schedulers, units, sum.busy_permille), (2, (20, 40, 6, 8), 100));
}

//! Migrations on a schema that is used meanwhile, and by versions that know more or less than it.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{path::Path, time::Duration};
use store::{
    Error, Store,
    migrations::{Kind, Migration, MigrationError, embedded, migrate},
};
use testkit::{Database, wait_for};

const WAIT: Duration = Duration::from_secs(30);

async fn database() -> Database {
    let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
    Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await
}

/// This version's migrations, and these after them.
fn with(further: &[(&str, &str)]) -> Vec<Migration> {
    let mut known = embedded().unwrap();
    let last = known.last().unwrap().version();
    for (at, (name, sql)) in (1..).zip(further) {
        known.push(Migration::new(last + at, name, sql).unwrap());
    }
    known
}

async fn refused(database: &Database, known: &[Migration]) -> MigrationError {
    match migrate(database.url(), known).await {
        Err(Error::Migrate(error)) => error,
        other => panic!("{other:?}"),
    }
}

async fn has_column(database: &Database, column: &str) -> bool {
    let sql = "SELECT EXISTS (SELECT FROM information_schema.columns WHERE table_name = 'run' AND column_name = $1)";
    database.client().await.query_one(sql, &[&column]).await.unwrap().get(0)
}

const ADD: (&str, &str) = ("add_colour", "-- expand\nALTER TABLE run ADD COLUMN colour text;\n");
const DROP: (&str, &str) = ("contract_colour", "-- contract\nALTER TABLE run DROP COLUMN colour;\n");

/// Half way through an upgrade a replica of the version before is started again.
#[tokio::test]
async fn the_version_before_serves_on_a_schema_that_was_added_to_and_not_on_one_that_was_taken_from() {
    let database = database().await;
    migrate(database.url(), &with(&[ADD])).await.unwrap();
    assert!(has_column(&database, "colour").await);
    Store::migrate(database.url()).await.expect("the version before may serve");
    migrate(database.url(), &with(&[ADD, DROP])).await.unwrap();
    assert!(!has_column(&database, "colour").await);
    let error = refused(&database, &with(&[])).await;
    assert!(matches!(&error, MigrationError::Contracted { name, .. } if name == "contract_colour"), "{error}");
    assert!(error.to_string().contains("start the newer version"), "{error}");
    // One that knows what was taken away goes on.
    migrate(database.url(), &with(&[ADD, DROP])).await.unwrap();
}

/// A change of a hot table comes while somebody uses it for long: it lets others pass, and comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_gives_way_to_those_who_use_its_tables() {
    let database = database().await;
    let user = database.client().await;
    user.batch_execute("BEGIN; SELECT count(*) FROM run").await.unwrap();
    let url = database.url().to_owned();
    let migrating = tokio::spawn(async move { migrate(&url, &with(&[ADD])).await });
    let waits =
        "SELECT 1 FROM pg_locks WHERE relation = 'run'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted";
    let watcher = database.client().await;
    wait_for("the migration to wait", WAIT, || async { watcher.query_opt(waits, &[]).await.unwrap().map(drop) }).await;
    // A write behind it passes once it gives way.
    let other = database.client().await;
    other.batch_execute("UPDATE run SET reason = 'x'").await.unwrap();
    assert!(!migrating.is_finished(), "nobody has let it through yet");
    user.batch_execute("COMMIT").await.unwrap();
    migrating.await.unwrap().unwrap();
    assert!(has_column(&database, "colour").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_outside_of_a_transaction_while_another_process_waits_for_its_turn() {
    let database = database().await;
    let build = "-- concurrent\nDROP INDEX CONCURRENTLY IF EXISTS run_by_reason;\n\
                 CREATE INDEX CONCURRENTLY run_by_reason ON run (reason);\n";
    let known = with(&[("index_of_reasons", build)]);
    let (one, two) = tokio::join!(migrate(database.url(), &known), migrate(database.url(), &known));
    one.unwrap();
    two.unwrap();
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'run_by_reason'::regclass";
    assert!(database.client().await.query_one(valid, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn what_fails_leaves_nothing_and_what_does_not_fit_is_refused() {
    let database = database().await;
    let broken = ("half", "-- expand\nALTER TABLE run ADD COLUMN half text;\nSELECT 1 / 0;\n");
    let error = refused(&database, &with(&[broken])).await;
    assert!(matches!(error, MigrationError::Failed { .. }), "{error}");
    assert!(!has_column(&database, "half").await);

    migrate(database.url(), &with(&[ADD])).await.unwrap();
    let changed = (ADD.0, "-- expand\nALTER TABLE run ADD COLUMN hue text;\n");
    let error = refused(&database, &with(&[changed])).await;
    assert!(matches!(error, MigrationError::Differs { .. }), "{error}");

    let mut known = with(&[]);
    let left_out = known.last().unwrap().version();
    known.push(Migration::new(left_out + 2, "later", "-- expand\nSELECT 1;\n").unwrap());
    let fresh = self::database().await;
    migrate(fresh.url(), &known).await.unwrap();
    let error = refused(&fresh, &with(&[("between", "-- expand\nSELECT 1;\n")])).await;
    assert!(matches!(error, MigrationError::LeftOut { version, .. } if version == left_out + 1), "{error}");
}

/// What the kinds promise, as far as words tell.
#[test]
fn every_migration_is_of_a_kind_and_keeps_to_it() {
    for migration in embedded().unwrap() {
        let sql = migration.sql().to_uppercase();
        let takes = ["DROP TABLE", "DROP COLUMN", "RENAME ", "ALTER COLUMN", "TRUNCATE TABLE"];
        let taken = takes.iter().find(|words| sql.contains(**words) && !sql.contains("SET STORAGE"));
        if migration.kind() == Kind::Expand {
            assert_eq!(taken, None, "V{} only adds, by its first line", migration.version());
        }
        assert_eq!(sql.contains("CONCURRENTLY"), migration.kind() == Kind::Concurrent, "V{}", migration.version());
    }
    let said = |name: &str, sql: &str| Migration::new(1, name, sql).map(|migration| migration.kind());
    assert!(matches!(said("drop_x", "-- contract\n"), Err(MigrationError::NoKind { .. })));
    assert!(matches!(said("contract_x", "-- expand\n"), Err(MigrationError::NoKind { .. })));
    assert!(matches!(said("x", "ALTER TABLE x"), Err(MigrationError::NoKind { .. })));
    assert!(matches!(said("contract_x", "-- contract\n"), Ok(Kind::Contract)));
}

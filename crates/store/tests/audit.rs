//! The trail on a real Postgres: nobody changes an entry, and only old ones go.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::{path::Path, time::Duration};
use store::{
    Store,
    audit::{self, Forgotten},
};
use testkit::Database;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A trail with an entry for each age in days, in this order.
async fn trail(ages: &[i32]) -> (Database, Store) {
    let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
    let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
    let insert = "INSERT INTO audit_entry (at, actor, via, method, object, outcome)
                  SELECT now() - make_interval(days => age), 'ada', 'token', 'RunService/CreateRun', age::text, 'ok'
                    FROM unnest($1::int[]) WITH ORDINALITY AS a (age, place) ORDER BY place";
    database.client().await.execute(insert, &[&ages]).await.unwrap();
    let store = Store::connect(database.url(), 2).await.unwrap();
    (database, store)
}

/// The ages that are left.
async fn left(database: &Database) -> Vec<String> {
    let rows = database.client().await.query("SELECT object FROM audit_entry ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn old_entries_go_batch_by_batch_and_the_others_stay() {
    let (database, store) = trail(&[900, 500, 450, 401, 399, 402, 31, 0]).await;
    let client = store.client().await.unwrap();
    let forget = async |after| audit::forget(&client, 400 * DAY, after, 3).await.unwrap();
    assert_eq!(forget(0).await, Forgotten { entries: 3, last: 3 });
    // Entries of calls that went on at once may stand the other way round.
    assert_eq!(forget(3).await, Forgotten { entries: 2, last: 6 });
    assert_eq!(forget(6).await, Forgotten { entries: 0, last: 6 });
    assert_eq!(left(&database).await, ["399", "31", "0"]);
    assert_eq!(audit::forget(&client, audit::KEPT_MIN, 0, 3).await.unwrap().entries, 2);
    assert_eq!(left(&database).await, ["0"]);
}

#[tokio::test]
async fn nobody_changes_an_entry_or_deletes_one_that_is_young() {
    let (database, store) = trail(&[900, 29, 0]).await;
    let client = database.client().await;
    for change in ["UPDATE audit_entry SET actor = 'x' WHERE object = '900'", "TRUNCATE audit_entry"] {
        assert!(client.batch_execute(change).await.is_err(), "{change}");
    }
    for some in ["", " WHERE object = '0'", " WHERE object = '29'"] {
        let refused = client.batch_execute(&format!("DELETE FROM audit_entry{some}")).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{some}");
    }
    let hasty = audit::forget(&store.client().await.unwrap(), 20 * DAY, 0, 10).await;
    assert!(hasty.is_err(), "{hasty:?}");
    assert_eq!(left(&database).await, ["900", "29", "0"], "as a whole it fails");
}

//! A schema that is added to and taken from while a cluster works on it, and what a replica does that is started again
//! meanwhile. Expand, migrate, contract: `migrations/README.md`.

use crate::{
    ALONE,
    play::{Play, promises},
};
use anyhow::{Result, ensure};
use load_tests::cluster::Shape;
use std::time::Duration;
use store::migrations::{Migration, embedded, migrate};

const SECONDS: u32 = 14;
/// For a process to end by itself.
const END: Duration = Duration::from_secs(60);

/// What the next version brings: columns in the tables that are written most, a table, an index.
const EXPAND: (&str, &str) = (
    "next_version",
    "-- expand
ALTER TABLE run ADD COLUMN colour text NOT NULL DEFAULT 'none';
ALTER TABLE firing ADD COLUMN colour text;
ALTER TABLE block_run ADD COLUMN colour text;
ALTER TABLE trigger_state ADD COLUMN colour text;
ALTER TABLE shard ADD COLUMN colour text;
CREATE TABLE colour (name text PRIMARY KEY);
",
);
const CONCURRENT: (&str, &str) = (
    "index_of_colours",
    "-- concurrent
DROP INDEX CONCURRENTLY IF EXISTS run_by_colour;
CREATE INDEX CONCURRENTLY run_by_colour ON run (colour) WHERE colour <> 'none';
",
);
/// What the version after that takes away.
const CONTRACT: (&str, &str) = (
    "contract_colours",
    "-- contract
ALTER TABLE run DROP COLUMN colour;
ALTER TABLE firing DROP COLUMN colour;
DROP TABLE colour;
",
);

fn with(further: &[(&str, &str)]) -> Result<Vec<Migration>> {
    let mut known = embedded()?;
    let last = known.last().map_or(0, Migration::version);
    for (number, (name, sql)) in (last + 1..).zip(further) {
        known.push(Migration::new(number, name, sql)?);
    }
    Ok(known)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changes_under_load_loses_and_doubles_nothing() -> Result<()> {
    let _alone = ALONE.lock().await;
    let shape = Shape {
        schedulers: 2,
        scheduler_places: 2,
        executors: 2,
        web_servers: 2,
        slots: 16,
        wires: Some(1),
        ..Shape::default()
    };
    let mut play = Play::start(shape).await?;
    play.until_members(2).await?;
    play.begin(SECONDS).await?;
    let url = play.cluster.database_url();
    // The next version's first replica starts: it adds what it needs.
    migrate(&url, &with(&[EXPAND])?).await?;
    // One of this version crashes, and another one drains; both start again on a schema that they do not know.
    play.cluster.service("scheduler-1")?.restart()?;
    play.until_members(2).await?;
    for name in ["executor-1", "web-server-1"] {
        let service = play.cluster.service(name)?;
        service.drain()?;
        service.wait(END).await?;
        service.restart()?;
    }
    migrate(&url, &with(&[EXPAND, CONCURRENT])?).await?;
    // The version after that takes away again what this one never knew of: it goes on, and is not started any more.
    migrate(&url, &with(&[EXPAND, CONCURRENT, CONTRACT])?).await?;
    let former = play.cluster.service("scheduler-2")?;
    former.restart()?;
    former.wait(END).await?;
    let said = former.log();
    ensure!(said.contains("contract_colours") && said.contains("start the newer version"), "it said {said}");
    let report = play.finish(&promises(), END).await?;
    println!("{report}");
    assert!(report.is_held(), "{report}");
    Ok(())
}

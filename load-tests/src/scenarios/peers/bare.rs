//! The floor of the peers' work: what the same PostgreSQL does for hand-written SQL that keeps as much, and nothing else.

use super::{Measured, Row, Work};
use crate::floor;
use anyhow::Result;
use provision::{ClusterOptions, PrivatePostgres};
use std::time::Duration;
use tempfile::TempDir;

const COMMITS: usize = 200;
const BATCHES: Duration = Duration::from_secs(1);

/// A step of a chain, and a run of one task, is one durable commit; what is handed over together is inserted, claimed and
/// completed in batches.
pub(super) async fn measure(label: &'static str, work: &Work) -> Result<Row> {
    let folder = TempDir::with_prefix("orrery-floor-")?;
    // The database's own user must be able to reach its folder.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let postgres = PrivatePostgres::start(&folder.path().join("postgres"), ClusterOptions::DURABLE)?;
    let measured = figures(&postgres, work).await;
    postgres.stop()?;
    let note = "a commit for each step; fan-out and bulk: inserted, claimed, completed in batches of 100";
    Ok(Row { label, note, measured: measured? })
}

async fn figures(postgres: &PrivatePostgres, work: &Work) -> Result<Measured> {
    let client = floor::connect(&postgres.tcp_url("postgres")).await?;
    let mut measured = Measured::default();
    let tasks = work.tasks as f64;
    for _ in 0..work.repeats {
        let commit = floor::commit_ms(&client, COMMITS).await? / 1000.0;
        let task = 1.0 / floor::batched_tasks_per_s(&client, BATCHES).await?;
        let figures = [
            ("chain", tasks * commit),
            ("fan_out", tasks * task),
            ("runs", commit),
            ("first_line", commit),
            ("bulk", task),
        ];
        for (figure, seconds) in figures.into_iter().filter(|(figure, _)| work.wants(figure)) {
            measured.seconds.entry(figure.to_owned()).or_default().push(seconds);
        }
    }
    Ok(measured)
}

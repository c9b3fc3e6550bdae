//! A backfill of a million intervals against one of ten: how long until its first run starts.

use crate::{
    cluster::{Cluster, WORKSPACE},
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result};
use proto::v1 as pb;
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
/// 2024-01-01, in seconds.
const START_S: i64 = 1_704_067_200;
/// How many of its runs go at once: few, so that the next round finds the cluster idle.
const PARALLELISM: i32 = 4;

/// Milliseconds from the call until the first run is seen to have started, median.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let cluster = Cluster::start(8).await?;
    let folder = cluster.folder().join("load");
    files::ProjectFolder::create(&folder)?.pipeline("fill", &[files::noop::<&str>("only", &[])])?;
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    cluster.run("fill").await?;
    let (mut ten, mut million) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ten.push(first_run_ms(&cluster, &sql, &format!("ten-{round}"), 10).await?);
        million.push(first_run_ms(&cluster, &sql, &format!("million-{round}"), 1_000_000).await?);
    }
    Ok(vec![Figure {
        name: "million intervals, to the first run",
        figure: percentile(&mut million, 0.5),
        unit: "ms",
        floor: percentile(&mut ten, 0.5),
        floor_is: "ten intervals",
        bar: Bar::AtMost(1.5),
    }])
}

async fn first_run_ms(cluster: &Cluster, sql: &tokio_postgres::Client, name: &str, intervals: i64) -> Result<f64> {
    let at = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let spec = pb::BackfillSpec {
        name: name.to_owned(),
        start_time: at(START_S),
        end_time: at(START_S + (intervals - 1) * 60),
        unit: pb::IntervalUnit::Minute.into(),
        parallelism: PARALLELISM,
        ..pb::BackfillSpec::default()
    };
    let called = Instant::now();
    let request = pb::CreateBackfillRequest {
        workspace: WORKSPACE.to_owned(),
        pipeline: "fill".to_owned(),
        spec: Some(spec),
        ..pb::CreateBackfillRequest::default()
    };
    let backfill = cluster.backfills().create_backfill(request).await?.into_inner().backfill.context("a backfill")?;
    let first = "SELECT EXISTS (SELECT FROM run WHERE backfill_id = $1::text::uuid AND started_at IS NOT NULL)";
    while !sql.query_one(first, &[&backfill.id]).await?.get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = called.elapsed();
    let request = pb::CancelBackfillRequest { backfill_id: backfill.id.clone() };
    if intervals > 10 {
        cluster.backfills().cancel_backfill(request).await?;
    }
    let unfinished = "SELECT count(*) FROM unfinished_run";
    while sql.query_one(unfinished, &[]).await?.get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(took.as_secs_f64() * 1_000.0)
}

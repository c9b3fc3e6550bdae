//! Floors: what the same Postgres can do at best, by hand-written SQL.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Tasks of one batch.
const BATCH: i32 = 100;

/// A connection to the cluster's own server. Its statements name their rows by index, as those of services do: left to itself PostgreSQL
/// plans them while the table is empty, and does half as many of them once it is not.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("SET enable_seqscan = off").await?;
    Ok(client)
}

/// Median time of one durable commit of one row, milliseconds.
pub(crate) async fn commit_ms(client: &Client, count: usize) -> Result<f64> {
    client
        .batch_execute("DROP TABLE IF EXISTS floor_commit; CREATE TABLE floor_commit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text)")
        .await?;
    let insert = client.prepare("INSERT INTO floor_commit (payload) VALUES ($1)").await?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        client.execute(&insert, &[&"{\"n\":10}"]).await?;
        samples.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(crate::report::percentile(&mut samples, 0.5))
}

/// Tasks a second of a loop that inserts, claims and completes them in batches of 100, one commit each, one client.
pub(crate) async fn batched_tasks_per_s(client: &Client, length: Duration) -> Result<f64> {
    create_tasks(client).await?;
    loop_in_batches(client, length).await
}

/// As [`batched_tasks_per_s`], by several clients at once on one table.
pub(crate) async fn batched_tasks_per_s_by(clients: &[Client], length: Duration) -> Result<f64> {
    let first = clients.first().context("a client")?;
    create_tasks(first).await?;
    Ok(try_join_all(clients.iter().map(|client| loop_in_batches(client, length))).await?.iter().sum())
}

async fn create_tasks(client: &Client) -> Result<()> {
    Ok(client
        .batch_execute(
            "DROP TABLE IF EXISTS floor_task;
             CREATE TABLE floor_task (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_id bigint NOT NULL,
               block int NOT NULL, state smallint NOT NULL DEFAULT 0, attempt smallint NOT NULL DEFAULT 0,
               payload text NOT NULL, worker int, created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
               claimed_at timestamptz, finished_at timestamptz);
             CREATE INDEX floor_task_ready ON floor_task (id) WHERE state = 0",
        )
        .await?)
}

async fn loop_in_batches(client: &Client, length: Duration) -> Result<f64> {
    let insert = client
        .prepare(
            "INSERT INTO floor_task (run_id, block, payload) SELECT 7, b, '{\"n\":10}' FROM unnest($1::int[]) AS b",
        )
        .await?;
    let claim = client
        .prepare(
            "WITH c AS (SELECT id FROM floor_task WHERE state = 0 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 100)
             UPDATE floor_task t SET state = 1, attempt = attempt + 1, worker = 1, claimed_at = clock_timestamp()
             FROM c WHERE t.id = c.id RETURNING t.id",
        )
        .await?;
    let complete = client
        .prepare(
            "UPDATE floor_task t SET state = 2, finished_at = clock_timestamp() FROM unnest($1::bigint[]) x(id) WHERE t.id = x.id",
        )
        .await?;
    let blocks: Vec<i32> = (0..BATCH).collect();
    let started = Instant::now();
    let mut tasks = 0_u32;
    while started.elapsed() < length {
        client.execute(&insert, &[&blocks]).await?;
        let ids: Vec<i64> = client.query(&claim, &[]).await?.iter().map(|row| row.get(0)).collect();
        client.execute(&complete, &[&ids]).await?;
        tasks += u32::try_from(ids.len())?;
    }
    Ok(f64::from(tasks) / started.elapsed().as_secs_f64())
}

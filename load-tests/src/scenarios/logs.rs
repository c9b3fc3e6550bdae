//! Searches over many log lines, by everything that they can be searched by.

use crate::{
    cluster::{Cluster, WORKSPACE},
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use proto::v1 as pb;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use uuid::Uuid;

/// How much.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Size {
    /// Lines that are searched
    #[arg(long, default_value_t = 10_000_000)]
    lines: i64,
}

/// Runs that the searched lines are of. One half of them writes all the time, the other half one after the other.
const RUNS: usize = 200;
/// Of each half, the first runs are those of a trigger.
const TRIGGERED: usize = 2;
/// Lines that are written by one statement.
const PART: i64 = 250_000;
/// The lines are so many seconds long.
const SPAN_S: i64 = 72_000;
/// The longest wait for chunks.
const SEALED: Duration = Duration::from_secs(1_800);
/// A search is repeated so often; its figure is the median.
const REPEATS: usize = 5;
/// Lines of one page.
const PAGE: usize = 100;
/// Pages that a reader leafs through.
const PAGES: usize = 20;

/// Every other line is of a run that writes all the time. One line of 5,000 is an error; one of 20,000 is of a block of its
/// own.
const INSERT: &str = "
    INSERT INTO log_line (run_id, at, block, level, stream, message, block_type)
    SELECT ($1::uuid[])[1 + CASE WHEN n % 2 = 0 THEN n / 2 % half ELSE half + n * half / $3 END],
           now() - make_interval(secs => $5::float8 * ($3 - n) / $3),
           CASE WHEN n % 20000 = 77 THEN 'publish' ELSE 'shape' END, CASE WHEN n % 5000 = 0 THEN 40 ELSE 20 END, 'stdout',
           format('Processed order %s of customer %s in %s ms, checksum %s', n, n * 7919 % 100003, n % 977, md5(n::text)),
           CASE WHEN n % 20000 = 77 THEN 'data_exporter' ELSE 'transformer' END
      FROM generate_series($2::bigint, least($2 + $4, $3) - 1) AS n,
           LATERAL (SELECT array_length($1::uuid[], 1) / 2 AS half) AS h";

/// A trigger, whose are the first runs of each half.
const TRIGGER: &str = "
    WITH made AS (
        INSERT INTO trigger (id, pipeline_id, name, kind, active, source)
        SELECT gen_random_uuid(), pipeline_id, 'nightly', 'api', false, 'api' FROM run WHERE id = ($1::uuid[])[1] RETURNING id)
    UPDATE run SET trigger_id = made.id FROM made WHERE run.id = ANY ($1::uuid[])";

/// Milliseconds of searches.
pub(crate) async fn run(size: Size) -> Result<Vec<Figure>> {
    let cluster = Cluster::start(8).await?;
    let folder = cluster.folder().join("load");
    files::ProjectFolder::create(&folder)?.pipeline("noop", &[files::noop::<&str>("only", &[])])?;
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    let runs = runs(&cluster).await?;
    let triggered = [&runs[..TRIGGERED], &runs[RUNS / 2..RUNS / 2 + TRIGGERED]].concat();
    sql.execute(TRIGGER, &[&triggered]).await?;
    fill(&sql, &runs, size.lines).await?;
    wait_sealed(&sql).await?;
    let floor = scan(&sql).await?;
    let mut searches = Searches { cluster: &cluster, figures: Vec::new(), floor };
    searches.by_text(size.lines).await?;
    searches.by_what_wrote(size.lines, &runs).await?;
    searches.by_time(size.lines).await?;
    Ok(searches.figures)
}

async fn runs(cluster: &Cluster) -> Result<Vec<Uuid>> {
    let requests = (0..RUNS).map(|n| pb::CreateRunRequest {
        workspace: WORKSPACE.to_owned(),
        pipeline: "noop".to_owned(),
        idempotency_key: format!("searched-{n}"),
        ..pb::CreateRunRequest::default()
    });
    let mut ids = Vec::new();
    for request in requests {
        let run = cluster.runs().create_run(request).await?.into_inner().run.context("a run")?;
        ids.push(run.id.parse()?);
    }
    Ok(ids)
}

/// Writes lines of the last 20 hours, oldest first.
async fn fill(sql: &Client, runs: &[Uuid], lines: i64) -> Result<()> {
    let insert = sql.prepare(INSERT).await?;
    let mut at = 0;
    while at < lines {
        sql.execute(&insert, &[&runs, &at, &lines, &PART, &(SPAN_S as f64)]).await?;
        at += PART;
    }
    sql.batch_execute("ANALYZE log_line").await?;
    Ok(())
}

/// Until the scheduler has summed up all that can be.
async fn wait_sealed(sql: &Client) -> Result<()> {
    let begun = Instant::now();
    loop {
        let left =
            "SELECT (SELECT last_value FROM log_line_id_seq) - coalesce((SELECT max(last_id) FROM log_chunk), 0)";
        let left: i64 = sql.query_one(left, &[]).await?.get(0);
        if left < 4_096 {
            return Ok(());
        }
        ensure!(begun.elapsed() < SEALED, "{left} lines were not sealed in {} s", SEALED.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Milliseconds of a scan of all lines in SQL.
async fn scan(sql: &Client) -> Result<f64> {
    let begun = Instant::now();
    let scan =
        "SELECT count(*) FROM log_line WHERE position('deadlock 1 detected' IN lower(message COLLATE \"C\")) > 0";
    sql.query_one(scan, &[]).await?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// Searches that were timed.
struct Searches<'a> {
    cluster: &'a Cluster,
    figures: Vec<Figure>,
    /// Milliseconds of a scan.
    floor: f64,
}

impl Searches<'_> {
    async fn by_text(&mut self, lines: i64) -> Result<()> {
        let mut rare = Vec::new();
        for part in 1..=7 {
            let n = lines * part / 8;
            let text = format!("order {n} of customer");
            let (ms, found) = self.search(pb::SearchLogsRequest { text, ..request() }, 10).await?;
            ensure!(found == 1, "line {n} was found {found} times");
            rare.push(ms);
        }
        self.figure("search: one line of all", rare);
        let absent = pb::SearchLogsRequest { text: "deadlock 7 detected".into(), ..request() };
        self.repeat("search: text that is nowhere", absent, 10, 0).await
    }

    async fn by_what_wrote(&mut self, lines: i64, runs: &[Uuid]) -> Result<()> {
        let errors = pb::SearchLogsRequest { min_level: "ERROR".into(), block_type: "transformer".into(), ..request() };
        self.repeat("search: the newest 100 errors", errors, PAGE, least(lines / 5_000)).await?;
        let trigger = pb::SearchLogsRequest { pipeline: "noop".into(), trigger: "nightly".into(), ..request() };
        self.repeat("search: the newest 100 of a trigger", trigger.clone(), PAGE, least(lines / 100)).await?;
        let errors = pb::SearchLogsRequest { min_level: "ERROR".into(), ..trigger.clone() };
        self.repeat("search: errors of a trigger", errors, 10, 1).await?;
        self.leaf("search: page by page through a trigger's", trigger).await?;
        let run = pb::SearchLogsRequest { run_id: runs[0].to_string(), ..request() };
        self.repeat("search: the newest 100 of a run", run.clone(), PAGE, least(lines / 200)).await?;
        self.leaf("search: page by page through a run's", run.clone()).await?;
        let text = pb::SearchLogsRequest { text: "no such words".into(), ..run };
        self.repeat("search: text that is not in a run", text, 10, 0).await?;
        let block = pb::SearchLogsRequest { block: "publish".into(), ..request() };
        self.repeat("search: the newest 100 of a rare block", block.clone(), PAGE, least(lines / 20_000)).await?;
        self.leaf("search: page by page through a rare block's", block).await?;
        let kind = pb::SearchLogsRequest { block_type: "data_exporter".into(), ..request() };
        self.repeat("search: the newest 100 of a rare block type", kind, PAGE, least(lines / 20_000)).await?;
        let nowhere = pb::SearchLogsRequest { block: "archive".into(), ..request() };
        self.repeat("search: a block that wrote nothing", nowhere, 10, 0).await
    }

    /// Half an hour, long ago.
    async fn by_time(&mut self, lines: i64) -> Result<()> {
        let ago = |seconds: i64| {
            let at = Timestamp::now() - SignedDuration::from_secs(seconds);
            Some(rpc::timestamp::to_proto(at))
        };
        let from = SPAN_S * 3 / 4;
        let range = pb::SearchLogsRequest { since: ago(from), until: ago(from - 1_800), ..request() };
        self.repeat("search: the newest 100 of half an hour", range.clone(), PAGE, least(lines / 40)).await?;
        self.leaf("search: page by page through half an hour's", range.clone()).await?;
        let text = pb::SearchLogsRequest { text: "no such words".into(), ..range };
        self.repeat("search: text that is not in half an hour", text, 10, 0).await
    }

    /// The median of some repetitions, each of which has to find at least so many lines.
    async fn repeat(
        &mut self,
        name: &'static str,
        request: pb::SearchLogsRequest,
        limit: usize,
        least: usize,
    ) -> Result<()> {
        let mut samples = Vec::new();
        for _ in 0..REPEATS {
            let (ms, found) = self.search(request.clone(), limit).await?;
            ensure!(found >= least && (least > 0 || found == 0), "{name}: found {found}, expected {least}");
            samples.push(ms);
        }
        self.figure(name, samples);
        Ok(())
    }

    /// The median of the pages that follow each other.
    async fn leaf(&mut self, name: &'static str, mut request: pb::SearchLogsRequest) -> Result<()> {
        let mut samples = Vec::new();
        let mut last = i64::MAX;
        for _ in 0..PAGES {
            let begun = Instant::now();
            let page = self.page(&mut request, PAGE).await?;
            samples.push(begun.elapsed().as_secs_f64() * 1e3);
            ensure!(page.iter().all(|line| line.id < last), "{name}: a page does not go on where the last one ended");
            last = page.last().map_or(last, |line| line.id);
            if request.page_token.is_empty() {
                break;
            }
        }
        self.figure(name, samples);
        Ok(())
    }

    /// Milliseconds until `limit` lines were found or all were looked at, and how many were.
    async fn search(&self, mut request: pb::SearchLogsRequest, limit: usize) -> Result<(f64, usize)> {
        let begun = Instant::now();
        let mut found = 0;
        loop {
            found += self.page(&mut request, limit).await?.len();
            if request.page_token.is_empty() || found >= limit {
                return Ok((begun.elapsed().as_secs_f64() * 1e3, found));
            }
        }
    }

    async fn page(&self, request: &mut pb::SearchLogsRequest, limit: usize) -> Result<Vec<pb::LogLine>> {
        request.page_size = i32::try_from(limit)?;
        let page = self.cluster.logs().search_logs(request.clone()).await?.into_inner();
        request.page_token = page.next_page_token;
        Ok(page.lines)
    }

    fn figure(&mut self, name: &'static str, mut samples: Vec<f64>) {
        self.figures.push(Figure {
            name,
            figure: percentile(&mut samples, 0.5),
            unit: "ms",
            floor: self.floor,
            floor_is: "a scan of all lines in SQL",
            bar: Bar::FigureAtMost(1_000.0),
        });
    }
}

fn request() -> pb::SearchLogsRequest {
    pb::SearchLogsRequest { workspace: WORKSPACE.to_owned(), ..pb::SearchLogsRequest::default() }
}

/// A page, or all that there is of a rare thing.
fn least(all: i64) -> usize {
    usize::try_from(all).unwrap_or(usize::MAX).clamp(1, PAGE)
}

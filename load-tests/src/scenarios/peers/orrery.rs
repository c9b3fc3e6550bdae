//! Orrery doing the peers' work: with Python blocks, as theirs are, and with its built-in no-op, which shows what of it is
//! Python.

use super::{Measured, Row, Work};
use crate::{
    cluster::{Cluster, WORKSPACE},
    floor, project_files as files,
    scenarios::independent,
};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use load_tests::usage::Usage;
use proto::v1 as pb;
use serde_json::Value;
use std::{
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Tasks at once, as for the peers.
const SLOTS: u32 = 8;
const SETTLE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(15);
/// Runs of Python in bulk, which take as long as all others together.
const PYTHON_BULK: usize = 1_000;
/// How long schedules are waited for after they were due.
const CRON_MAX: Duration = Duration::from_secs(60);

const SCHEDULE: &str = "
    INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
    SELECT gen_random_uuid(), p.id, 'tick-' || n, 'time', true, 'api',
           jsonb_build_object('kind', jsonb_build_object('type', 'schedule', 'every', $1::text, 'zone', 'UTC'))
      FROM generate_series(1, $2::integer) AS n, pipeline AS p WHERE p.name = 'tick'";

/// Both rows of the table; ratios are to the first one.
pub(super) async fn measure(work: &Work) -> Result<Vec<Row>> {
    let mut cluster = Cluster::start(SLOTS).await?;
    let stamps = cluster.folder().join("stamps");
    let folder = cluster.folder().join("load");
    write_project(&folder, &stamps, work)?;
    cluster.deploy(&folder).await?;
    run_one(&cluster, "one", "warm").await?;
    run_one(&cluster, "one_noop", "warm").await?;
    let mut python = runs(&cluster, work, "", work.bulk.min(PYTHON_BULK)).await?;
    let noop = runs(&cluster, work, "_noop", work.bulk).await?;
    if work.wants("first_line") {
        python.seconds.insert("first_line".to_owned(), first_lines(&cluster, &stamps, work).await?);
    }
    if work.wants("idle") {
        (python.idle_mb, python.idle_cpu_percent) = idle(&mut cluster).await;
    }
    if work.wants("cron") {
        python.seconds.insert("cron".to_owned(), cron(&cluster, &stamps, work).await?);
    }
    Ok(vec![
        Row {
            label: "Orrery, Python blocks",
            note: "a block is a process, forked from a warm interpreter",
            measured: python,
        },
        Row { label: "Orrery, built-in no-ops", note: "what of the above is not Python", measured: noop },
    ])
}

/// The figures that both kinds of blocks have.
async fn runs(cluster: &Cluster, work: &Work, suffix: &str, bulk: usize) -> Result<Measured> {
    let sql = floor::connect(&cluster.database_url()).await?;
    let mut measured = Measured::default();
    for figure in ["chain", "fan_out", "runs", "bulk"].into_iter().filter(|figure| work.wants(figure)) {
        let mut seconds = Vec::new();
        for _ in 0..work.repeats {
            let begun = Instant::now();
            seconds.push(match figure {
                "runs" => {
                    at_once(cluster, &format!("one{suffix}"), work.runs).await?;
                    begun.elapsed().as_secs_f64() / work.runs as f64
                }
                "bulk" => independent::seconds(cluster, &sql, &format!("only{suffix}"), bulk).await? / bulk as f64,
                _ => {
                    cluster.run(&format!("{figure}{suffix}")).await?;
                    begun.elapsed().as_secs_f64()
                }
            });
        }
        measured.seconds.insert(figure.to_owned(), seconds);
    }
    Ok(measured)
}

async fn at_once(cluster: &Cluster, pipeline: &str, count: usize) -> Result<()> {
    let tags: Vec<String> = (0..count).map(|number| format!("at-once-{number}")).collect();
    try_join_all(tags.iter().map(|tag| run_one(cluster, pipeline, tag))).await.map(drop)
}

/// From each of some calls, one after the other, to the clock of user code.
async fn first_lines(cluster: &Cluster, stamps: &Path, work: &Work) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    for number in 0..work.calls {
        let (begun, tag) = (now_s()?, format!("call-{number}"));
        run_one(cluster, "one", &tag).await?;
        seconds.push(stamped(stamps, &tag).first().context("a stamp")? - begun);
    }
    Ok(seconds)
}

/// Makes a block with these upstreams.
type Make = for<'a, 'b, 'c> fn(&'a str, &'b [&'c str]) -> Value;

fn write_project(folder: &Path, stamps: &Path, work: &Work) -> Result<()> {
    let project = files::ProjectFolder::create(folder)?;
    let names: Vec<String> = (0..work.tasks).map(|at| format!("task_{at}")).collect();
    let blocks = |make: Make, in_a_row: bool| -> Vec<Value> {
        let upstream = |at: usize| names.get(at.wrapping_sub(1)).filter(|_| in_a_row).map(String::as_str);
        names.iter().enumerate().map(|(at, name)| make(name, upstream(at).as_slice())).collect()
    };
    for (suffix, make) in [("", files::python as Make), ("_noop", |name, upstream| files::noop(name, upstream))] {
        project.pipeline(&format!("chain{suffix}"), &blocks(make, true))?;
        project.pipeline(&format!("fan_out{suffix}"), &blocks(make, false))?;
    }
    for name in &names {
        project.custom(name, &format!("@custom\ndef {name}(*args, **kwargs):\n    pass\n"))?;
    }
    project.pipeline("one", &[files::python("stamp", &[])])?;
    project.pipeline("one_noop", &[files::noop::<&str>("only", &[])])?;
    project.pipeline("only", &[files::python("task_0", &[])])?;
    project.pipeline("only_noop", &[files::noop::<&str>("only", &[])])?;
    project.pipeline("tick", &[files::python("tick", &[])])?;
    for (block, tag) in [("stamp", "{kwargs[\"tag\"]}"), ("tick", "cron")] {
        let stamp = format!("open({:?}, 'a').write(f'{tag} {{time.time()}}\\n')", stamps.display().to_string());
        project.custom(block, &format!("import time\n@custom\ndef {block}(*args, **kwargs):\n    {stamp}\n"))?;
    }
    Ok(())
}

/// Starts one run with this tag and waits for its end.
async fn run_one(cluster: &Cluster, pipeline: &str, tag: &str) -> Result<()> {
    let tag = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(tag.to_owned())) };
    let request = pb::CreateRunRequest {
        workspace: WORKSPACE.to_owned(),
        pipeline: pipeline.to_owned(),
        variables: Some(prost_types::Struct { fields: [("tag".to_owned(), tag)].into() }),
        ..pb::CreateRunRequest::default()
    };
    let run = cluster.runs().create_run(request).await?.into_inner().run.context("a run")?;
    cluster.wait(&run.id).await.map(drop)
}

async fn idle(cluster: &mut Cluster) -> (Option<f64>, Option<f64>) {
    let services: Vec<u32> = cluster.services().map(|(_, service)| service.pid()).collect();
    tokio::time::sleep(SETTLE).await;
    let before = Usage::of(&services);
    tokio::time::sleep(IDLE).await;
    let after = Usage::of(&services);
    (Some(after.memory_mb), Some((after - before).cpu_s / IDLE.as_secs_f64() * 100.0))
}

/// How late the first lines of schedules were that are due in the next minute, seconds.
async fn cron(cluster: &Cluster, stamps: &Path, work: &Work) -> Result<Vec<f64>> {
    let due = ((now_s()? + 5.0) / 60.0).floor() * 60.0 + 60.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole minutes")]
    let at = jiff::Timestamp::from_second(due as i64)?.to_zoned(jiff::tz::TimeZone::UTC);
    let expression = format!("{} {} * * *", at.minute(), at.hour());
    let sql = floor::connect(&cluster.database_url()).await?;
    sql.execute(SCHEDULE, &[&expression, &i32::try_from(work.schedules)?]).await?;
    loop {
        let late: Vec<f64> = stamped(stamps, "cron").into_iter().map(|at| at - due).collect();
        if late.len() >= work.schedules {
            return Ok(late);
        }
        let waited = now_s()? - due;
        ensure!(waited < CRON_MAX.as_secs_f64(), "{} of {} schedules have run", late.len(), work.schedules);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// When user code said this tag.
fn stamped(stamps: &Path, tag: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(stamps).unwrap_or_default();
    let of_tag = text.lines().filter_map(|line| line.split_once(' ')).filter(|(said, _)| *said == tag);
    of_tag.filter_map(|(_, at)| at.parse().ok()).collect()
}

fn now_s() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

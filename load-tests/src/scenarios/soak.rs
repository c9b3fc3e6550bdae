//! A steady load for a long time: whether memory, dead rows and lateness stay where they are.
//!
//! A level at the end says little about one that creeps, so slopes are judged: the median of the slopes between any two
//! samples, which neither a spike nor a saw-tooth bends.

mod load;
mod sample;

use crate::{
    cluster::{Cluster, Shape},
    floor,
    report::{Bar, Figure, percentile},
};
use anyhow::{Result, ensure};
use sample::{Sample, Sampler};
use std::time::{Duration, Instant};

/// How long.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Length {
    /// Minutes of load
    #[arg(long, default_value_t = 60)]
    minutes: u32,
}

/// Between two samples, and between two lines that tell how it goes.
const SAMPLE: Duration = Duration::from_secs(10);
const TELL_EVERY: usize = 30;
/// Of each kind of service.
const EACH: usize = 2;
/// The part of the samples that is not judged: caches fill, tables get their size.
const WARM_UP: f64 = 0.2;
/// What may be added in an hour.
const MEMORY_MB_PER_H: f64 = 10.0;
const DEAD_PER_H: f64 = 5_000.0;
const LATE_MS_PER_H: f64 = 100.0;
/// The most at once.
const DEAD_MAX: f64 = 50_000.0;
const LATE_MAX_MS: f64 = 1_000.0;

/// Growth by the hour, and the worst that was seen.
pub(crate) async fn run(length: Length) -> Result<Vec<Figure>> {
    let shape = Shape {
        schedulers: EACH,
        scheduler_places: EACH,
        executors: EACH,
        web_servers: EACH,
        slots: 16,
        ..Shape::default()
    };
    let mut cluster = Cluster::start_as(shape).await?;
    load::deploy(&cluster).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    let load = load::Load::begin(&cluster, &sql, Duration::from_secs(u64::from(length.minutes) * 60)).await?;
    let mut sampler = Sampler::new(&mut cluster, load.calls())?;
    let mut samples = Vec::new();
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SAMPLE, SAMPLE);
    let begun = Instant::now();
    while !load.is_over() {
        ticks.tick().await;
        let sample = sampler.sample(&sql, begun.elapsed()).await?;
        if samples.len() % TELL_EVERY == 0 {
            println!("{sample}");
        }
        samples.push(sample);
        ensure!(
            cluster.services().all(|(_, service)| service.is_running()),
            "a service has ended: {}",
            cluster.keep_logs()?
        );
    }
    let ended = load.finish(&sql).await?;
    let mut figures = judge(&samples);
    let deadlocks = "SELECT coalesce(sum(deadlocks), 0)::float8 FROM pg_stat_database";
    figures.push(Figure {
        name: "deadlocks",
        figure: sql.query_one(deadlocks, &[]).await?.get(0),
        unit: "",
        floor: ended.runs as f64,
        floor_is: "runs in all",
        bar: Bar::FigureAtMost(0.0),
    });
    figures.push(Figure {
        name: "runs that did not complete or were skipped",
        figure: ended.wrong as f64,
        unit: "",
        floor: ended.runs as f64,
        floor_is: "runs in all",
        bar: Bar::FigureAtMost(0.0),
    });
    Ok(figures)
}

fn judge(samples: &[Sample]) -> Vec<Figure> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
    let warm = (samples.len() as f64 * WARM_UP) as usize;
    let judged = &samples[warm..];
    let growth = |name, unit, of: &dyn Fn(&Sample) -> f64, bar| {
        let points: Vec<(f64, f64)> = judged.iter().map(|sample| (sample.hours, of(sample))).collect();
        let floor = points.first().map_or(f64::NAN, |(_, value)| *value);
        Figure {
            name,
            figure: slope(&points),
            unit,
            floor,
            floor_is: "what it was at first",
            bar: Bar::FigureAtMost(bar),
        }
    };
    let worst = |name, unit, of: &dyn Fn(&Sample) -> f64, bar| {
        let mut all: Vec<f64> = judged.iter().map(of).collect();
        Figure {
            name,
            figure: all.iter().copied().fold(0.0, f64::max),
            unit,
            floor: percentile(&mut all, 0.5),
            floor_is: "median of the samples",
            bar: Bar::FigureAtMost(bar),
        }
    };
    let memory = |name, kind: &'static str| growth(name, "MB/h", &move |s: &Sample| s.memory_of(kind), MEMORY_MB_PER_H);
    vec![
        memory("growth of schedulers", "scheduler"),
        memory("growth of executors", "executor"),
        memory("growth of web-servers", "web-server"),
        growth("growth of dead rows", "1/h", &|s| s.dead_rows, DEAD_PER_H),
        worst("dead rows, most at once", "rows", &|s| s.dead_rows, DEAD_MAX),
        growth("growth of lateness, p99", "ms/h", &|s| s.late_p99_ms, LATE_MS_PER_H),
        worst("lateness, p99 of the worst 10 s", "ms", &|s| s.late_p99_ms, LATE_MAX_MS),
        growth("growth of call to end, p99", "ms/h", &|s| s.call_p99_ms, LATE_MS_PER_H),
        worst("call to end, p99 of the worst 10 s", "ms", &|s| s.call_p99_ms, LATE_MAX_MS),
    ]
}

/// The median of the slopes between any two points (Theil and Sen).
fn slope(points: &[(f64, f64)]) -> f64 {
    let pairs = points.iter().enumerate().flat_map(|(at, from)| points[at + 1..].iter().map(move |to| (from, to)));
    let slopes = pairs.filter(|(from, to)| to.0 > from.0).map(|(from, to)| (to.1 - from.1) / (to.0 - from.0));
    percentile(&mut slopes.filter(|slope| slope.is_finite()).collect::<Vec<_>>(), 0.5)
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_creeping_level_shows_through_spikes_and_saw_teeth() {
        let points: Vec<(f64, f64)> = (0..360)
            .map(|n| {
                let hours = f64::from(n) / 360.0;
                let tooth = f64::from(n % 6) * 100.0;
                let spike = if n % 50 == 7 { 9_000.0 } else { 0.0 };
                (hours, 40.0 * hours + tooth + spike)
            })
            .collect();
        let seen = slope(&points);
        assert!((20.0..60.0).contains(&seen), "40 an hour looks like {seen}");
        let level: Vec<_> = points.iter().map(|(x, y)| (*x, y - 40.0 * x)).collect();
        assert!(slope(&level).abs() < 20.0, "a level looks like {}", slope(&level));
    }
}

//! A published placement experiment, replayed through the planner that the scheduler uses, beside the policies that it is
//! compared with. No cluster is started: what is measured is decisions.
//!
//! The method, and what the published policies reach on the published trace, are those of Weng et al., "Beware of
//! Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (USENIX ATC 2023).

mod baselines;
mod departures;
mod method;
mod production;
mod trace;

use crate::report::{Bar, Figure};
use anyhow::{Result, bail};
use method::{Outcome, Placer};
use std::path::PathBuf;

/// What is replayed.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A CSV file of nodes (sn, cpu_milli, memory_mib, gpu, model)
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// A CSV file of tasks (cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec)
    #[arg(long, value_name = "FILE")]
    tasks: PathBuf,
    /// How many seeds, from 42 on
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Percent of the GPU tasks that get models to insist on, besides those that have some
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    demanding: u8,
    /// How these models are drawn
    #[arg(long, value_enum, default_value_t = trace::Draw::Supply)]
    draw: trace::Draw,
    /// Only the planner, without the policies it is compared with
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    visits: departures::Visits,
}

/// Mean allocation by the published runs of the best published policy, in percent, when as much has arrived as there is,
/// and when 1.3 times as much has.
const PUBLISHED: [(&str, f64, f64); 3] = [
    ("openb_pod_list_default", 95.23, 95.39),
    ("openb_pod_list_multigpu30", 96.36, 96.46),
    ("openb_pod_list_gpushare60", 91.25, 91.40),
];

/// Decisions a second that the planner has to make.
const DECISIONS_PER_S: f64 = 2_000.0;

/// An empty cluster under a policy, for a seed.
type Fresh = fn(&[trace::Node], &[trace::Task], u64) -> Box<dyn Placer>;

/// Replays the trace, prints what each policy reaches, and answers the planner's figures.
pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let Options { nodes, tasks, .. } = options;
    if options.seeds == 0 {
        bail!("--seeds must be at least 1");
    }
    let name = tasks.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let nodes = trace::nodes(nodes)?;
    if options.visits.asked() {
        return departures::run(&nodes, &trace::stays(tasks)?, &options.visits);
    }
    let mut tasks = trace::tasks(tasks)?;
    trace::demand(&mut tasks, &nodes, options.demanding, options.draw);
    let fresh: [(&str, Fresh); 5] = [
        ("orrery", |nodes, tasks, _| Box::new(production::Production::new(nodes, tasks))),
        ("fgd", |nodes, tasks, seed| Box::new(baselines::Cluster::new(nodes, tasks, baselines::Rule::Fgd, seed))),
        ("best fit", |nodes, tasks, seed| {
            Box::new(baselines::Cluster::new(nodes, tasks, baselines::Rule::BestFit, seed))
        }),
        ("dot product", |nodes, tasks, seed| {
            Box::new(baselines::Cluster::new(nodes, tasks, baselines::Rule::DotProduct, seed))
        }),
        ("random", |nodes, tasks, seed| Box::new(baselines::Cluster::new(nodes, tasks, baselines::Rule::Random, seed))),
    ];
    println!("{:<14} {:>16} {:>16} {:>14}", "policy", "at 100 % (std)", "at 130 % (std)", "decisions/s");
    let mut summaries = Vec::new();
    for (policy, fresh) in fresh.into_iter().take(if options.alone { 1 } else { 5 }) {
        let outcomes: Vec<Outcome> = (0..options.seeds)
            .map(|seed| method::replay(&nodes, &tasks, 42 + seed, &mut |seed| fresh(&nodes, &tasks, seed)))
            .collect();
        let summary = Summary::of(&outcomes);
        println!(
            "{policy:<14} {:>8.2} ({:>5.2}) {:>8.2} ({:>5.2}) {:>14.0}",
            summary.full.mean,
            summary.full.deviation,
            summary.over.mean,
            summary.over.deviation,
            summary.decisions_per_s
        );
        summaries.push(summary);
    }
    println!();
    let published = PUBLISHED.iter().find(|(list, ..)| *list == name && options.demanding == 0);
    Ok(figures(&summaries, published.map(|(_, full, over)| (*full, *over))))
}

fn figures(summaries: &[Summary], published: Option<(f64, f64)>) -> Vec<Figure> {
    let (ours, others) = (&summaries[0], &summaries[1..]);
    let best = |of: fn(&Summary) -> f64| others.iter().map(of).max_by(f64::total_cmp);
    let figure = |name, figure, floor: Option<f64>, floor_is| {
        floor.map(|floor| Figure { name, figure, unit: "%", floor, floor_is, bar: Bar::AtLeast(1.0) })
    };
    let (measured, stated) = ("best of the other policies, same tasks", "best published policy, as published");
    let at_full = ("allocation at 100 %", ours.full.mean);
    let at_over = ("allocation at 130 %", ours.over.mean);
    let mut figures: Vec<Figure> = [
        figure(at_full.0, at_full.1, published.map(|p| p.0), stated),
        figure(at_over.0, at_over.1, published.map(|p| p.1), stated),
        figure(at_full.0, at_full.1, best(|s| s.full.mean), measured),
        figure(at_over.0, at_over.1, best(|s| s.over.mean), measured),
    ]
    .into_iter()
    .flatten()
    .collect();
    figures.push(Figure {
        name: "decisions",
        figure: ours.decisions_per_s,
        unit: "1/s",
        floor: DECISIONS_PER_S,
        floor_is: "the number that is asked for",
        bar: Bar::AtLeast(1.0),
    });
    figures
}

/// What a policy reaches over all seeds.
struct Summary {
    full: Spread,
    over: Spread,
    decisions_per_s: f64,
}

/// Mean and standard deviation, percent.
struct Spread {
    mean: f64,
    deviation: f64,
}

impl Summary {
    fn of(outcomes: &[Outcome]) -> Self {
        let seconds: f64 = outcomes.iter().map(|o| o.seconds).sum();
        let decisions: f64 = outcomes.iter().map(|o| o.decisions as f64).sum();
        Self {
            full: Spread::of(outcomes.iter().map(|o| o.at_percent(100))),
            over: Spread::of(outcomes.iter().map(|o| o.at_percent(130))),
            decisions_per_s: decisions / seconds,
        }
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: (squares / count).sqrt() }
    }
}

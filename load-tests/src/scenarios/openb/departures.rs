//! The trace's tasks as visits: they come at random, stay as long as they did, and leave, in logical time and through the
//! planner. Beside it, the same visits to one pool of as many GPUs, which has no nodes and so no fragments.

use super::{
    production::{self, Production},
    trace::{Node, Stay},
};
use crate::report::{Bar, Figure, percentile};
use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use placement::{Arrival, Fate, Pauses, Policy, Simulation};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Instant,
};

/// How the visits are drawn, and how often is planned.
#[derive(clap::Args)]
pub(crate) struct Visits {
    /// Tasks come and leave, instead: needs scheduled_time and deletion_time. One seed; other policies are left out
    #[arg(long)]
    departures: bool,
    /// GPU time that is asked for, in percent of what there is
    #[arg(long, default_value_t = 90, requires = "departures", value_parser = clap::value_parser!(u64).range(1..=1000))]
    load: u64,
    /// Stays are cut to this, in seconds; tasks come for four times as long
    #[arg(long, default_value_t = 3_600, requires = "departures", value_parser = clap::value_parser!(u64).range(60..))]
    longest_s: u64,
    /// Least logical time between two plans, in seconds
    #[arg(long, default_value_t = 10, requires = "departures", value_parser = clap::value_parser!(u64).range(1..))]
    plan_s: u64,
}

/// The first seed of the published method.
const SEED: u64 = 42;
/// Tasks come for so many times the longest stay; the first of these fills the fleet and does not count.
const LENGTHS: u64 = 4;
/// From the word to leave until devices are free, seconds.
const GRACE_S: u64 = 30;
/// Lines of the table.
const ROWS: u64 = 12;

impl Visits {
    pub(super) fn asked(&self) -> bool {
        self.departures
    }
}

/// What one fleet made of the visits.
struct Outcome {
    /// Percent of the GPUs, mean of the time that counts.
    allocated: f64,
    /// Of those who came in it, seconds.
    waits: Vec<f64>,
}

/// Replays the visits, prints what was held and who waited by the time, and answers the figures.
pub(super) fn run(nodes: &[Node], stays: &[Stay], visits: &Visits) -> Result<Vec<Figure>> {
    let capacity: u64 = nodes.iter().map(|node| u64::from(node.gpus) * 1000).sum();
    let arrivals = draw(stays, capacity, visits);
    ensure!(!arrivals.is_empty(), "no task stays long enough to be drawn: raise --load or --longest-s");
    let from_s = visits.longest_s;
    let until_s = visits.longest_s * LENGTHS;
    let started = Instant::now();
    let (ours, ends) = planned(nodes, stays, &arrivals, capacity, (from_s, until_s), visits.plan_s);
    let seconds = started.elapsed().as_secs_f64();
    let mut pool = pooled(&arrivals, capacity, (from_s, until_s), visits.plan_s);
    let mut waits = ours.waits;
    let stopped: u32 = ends.fates.iter().map(|fate| fate.stopped).sum();
    println!("{} visits, {stopped} times one was stopped for another, {seconds:.0} s of computing\n", arrivals.len());
    let told = |name, figure, floor| Figure { name, figure, unit: "s", floor, floor_is: POOL, bar: Bar::Told };
    Ok(vec![
        Figure {
            name: "allocation over time",
            figure: ours.allocated,
            unit: "%",
            floor: pool.allocated,
            floor_is: POOL,
            bar: Bar::AtLeast(0.9),
        },
        told("wait, mean", mean(&waits), mean(&pool.waits)),
        told("wait, p99", percentile(&mut waits, 0.99), percentile(&mut pool.waits, 0.99)),
        Figure {
            name: "held or kept when all have left",
            figure: ends.left_milli as f64,
            unit: "milli-GPU",
            floor: capacity as f64,
            floor_is: "what there is",
            bar: Bar::FigureAtMost(0.0),
        },
        Figure {
            name: "never started, though it fits",
            figure: ends.fates.iter().filter(|fate| !fate.finished).count() as f64 - ends.misfits as f64,
            unit: "",
            floor: arrivals.len() as f64,
            floor_is: "visits in all",
            bar: Bar::FigureAtMost(0.0),
        },
    ])
}

const POOL: &str = "one pool of as many GPUs, first come first served";

/// When, and which of the stays.
type Visit = (u64, Stay);

/// Stays drawn one by one, with exponential gaps, so that they ask for `load` percent of all GPU time.
fn draw(stays: &[Stay], capacity: u64, visits: &Visits) -> Vec<Visit> {
    let mut random = StdRng::seed_from_u64(SEED);
    let cut = |stay: &Stay| Stay { lasts_s: stay.lasts_s.clamp(1, visits.longest_s), ..stay.clone() };
    let stays: Vec<Stay> = stays.iter().map(cut).collect();
    let work: f64 = stays.iter().map(|stay| (stay.task.milli() * stay.lasts_s) as f64).sum();
    let per_second = capacity as f64 * visits.load as f64 / 100.0;
    let gap = work / stays.len() as f64 / per_second;
    let end = (visits.longest_s * LENGTHS) as f64;
    let mut at = 0.0;
    let mut drawn = Vec::new();
    loop {
        at -= gap * (1.0 - random.random::<f64>()).ln();
        if at >= end {
            return drawn;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the end")]
        drawn.push((at as u64, stays[random.random_range(0..stays.len())].clone()));
    }
}

/// How it stood at the end.
struct Ends {
    fates: Vec<Fate>,
    left_milli: u64,
    /// Who does not fit on any node, even when all is free.
    misfits: usize,
}

fn planned(
    nodes: &[Node],
    stays: &[Stay],
    visits: &[Visit],
    capacity: u64,
    (from_s, until_s): (u64, u64),
    plan_s: u64,
) -> (Outcome, Ends) {
    let tasks: Vec<_> = stays.iter().map(|stay| stay.task.clone()).collect();
    let (snapshot, queues) = production::snapshot(nodes, &tasks);
    let arrivals = visits.iter().enumerate().map(|(at, (comes_s, stay))| {
        let mut request = Production::request(at as u128, queues[usize::from(stay.stoppable)], &stay.task);
        request.submitted_at = instant(*comes_s);
        Arrival { request, lasts_s: stay.lasts_s }
    });
    let pauses = Pauses { plan_s, grace_s: GRACE_S };
    let arrivals: Vec<Arrival> = arrivals.collect();
    let comes: BTreeMap<_, _> = arrivals.iter().map(|a| (a.request.holder, a.request.submitted_at)).collect();
    let mut simulation = Simulation::new(snapshot, arrivals, &Policy::default(), pauses);
    let mut curve = Curve::new(from_s, until_s);
    let mut rows = (1..=ROWS).map(|row| row * until_s / ROWS).peekable();
    println!("{:>9} {:>12} {:>9}", "second", "allocated", "waiting");
    while simulation.step().is_some() {
        let snapshot = simulation.snapshot();
        let now = u64::try_from(snapshot.now.as_second()).unwrap_or(0);
        let held = held_milli(&simulation);
        curve.goes_on(now, held);
        if rows.next_if(|row| *row <= now).is_some() {
            let percent = held as f64 / capacity as f64 * 100.0;
            println!("{now:>9} {percent:>10.2} % {:>9}", snapshot.requests.len());
        }
    }
    let counted = simulation.fates().iter().filter(|(holder, _)| comes[*holder] >= instant(from_s));
    let waits = counted.filter_map(|(_, fate)| fate.waited_s).map(|waited| waited as f64).collect();
    let end = simulation.snapshot();
    let kept: u64 = end.nominations.iter().flat_map(|n| &n.grants).map(|grant| u64::from(grant.milli)).sum();
    let ends = Ends {
        fates: simulation.fates().values().copied().collect(),
        left_milli: held_milli(&simulation) + kept,
        misfits: placement::plan(end, &Policy::default()).refusals.len(),
    };
    (Outcome { allocated: curve.mean() / capacity as f64 * 100.0, waits }, ends)
}

fn held_milli(simulation: &Simulation) -> u64 {
    let grants = simulation.snapshot().holdings.iter().flat_map(|holding| &holding.grants);
    grants.map(|grant| u64::from(grant.milli)).sum()
}

/// First come first served by one number, decided as often as the planner decides; whoever still fits may pass one who does not.
fn pooled(visits: &[Visit], capacity: u64, (from_s, until_s): (u64, u64), plan_s: u64) -> Outcome {
    let mut coming: VecDeque<&Visit> = visits.iter().collect();
    let mut waiting: Vec<&Visit> = Vec::new();
    let mut leaving: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
    let (mut free, mut waits, mut curve) = (capacity, Vec::new(), Curve::new(from_s, until_s));
    let (mut unseen, mut plan_from, mut now) = (false, 0, 0);
    loop {
        let (comes, leaves) = (coming.front().map(|visit| visit.0), leaving.peek().map(|Reverse((at, _))| *at));
        let next = [comes, leaves, (unseen && !waiting.is_empty()).then_some(plan_from)];
        let Some(next) = next.into_iter().flatten().min() else { break };
        now = next.max(now);
        while let Some(Reverse((_, milli))) = leaving.peek().copied().filter(|next| next.0.0 <= now) {
            leaving.pop();
            free += milli;
            unseen = true;
        }
        while coming.front().is_some_and(|visit| visit.0 <= now) {
            waiting.extend(coming.pop_front());
            unseen = true;
        }
        if unseen && now >= plan_from {
            (unseen, plan_from) = (false, now + plan_s);
            waiting.retain(|(comes_s, stay)| {
                let milli = stay.task.milli();
                if milli > free {
                    return true;
                }
                free -= milli;
                leaving.push(Reverse((now + stay.lasts_s, milli)));
                if *comes_s >= from_s {
                    waits.push((now - comes_s) as f64);
                }
                false
            });
        }
        curve.goes_on(now, capacity - free);
    }
    Outcome { allocated: curve.mean() / capacity as f64 * 100.0, waits }
}

/// The mean of what is held, over a part of the time.
struct Curve {
    from_s: u64,
    until_s: u64,
    area: u128,
    last: (u64, u64),
}

impl Curve {
    fn new(from_s: u64, until_s: u64) -> Self {
        Self { from_s, until_s, area: 0, last: (0, 0) }
    }

    /// From now on, so much is held.
    fn goes_on(&mut self, now: u64, held: u64) {
        let within = |at: u64| at.clamp(self.from_s, self.until_s);
        self.area += u128::from(within(now) - within(self.last.0)) * u128::from(self.last.1);
        self.last = (now, held);
    }

    fn mean(&self) -> f64 {
        self.area as f64 / (self.until_s - self.from_s) as f64
    }
}

fn instant(second: u64) -> Timestamp {
    let second = SignedDuration::from_secs(i64::try_from(second).unwrap_or(i64::MAX));
    Timestamp::UNIX_EPOCH.saturating_add(second).unwrap_or(Timestamp::MAX)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

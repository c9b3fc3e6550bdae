//! Devices that come back too early, in real clusters: the checker must see that two have one device. The executor obeys without a
//! look at what it holds, so that nothing but the ledger stands between two holders; with the ledger's rule, that capacity
//! comes back by the executor's word and no other, the same cluster is right.

use crate::ALONE;
use anyhow::{Context, Result, ensure};
use load_tests::{
    declared::{Declared, Shape as Nodes},
    history::{Check, Detail, History, Promises, Report, Standing, Witness, check},
    runtimes::{Caller, Setup, WORLD, is_empty},
};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Workspaces of each pool, for one GPU.
const WORKSPACES: usize = 5;
const ROUNDS: usize = 6;
/// From being told to end to being gone: long enough for somebody else to be told to start.
const LINGER: Duration = Duration::from_secs(1);
/// An executor that is silent for so long is taken to be lost.
const SILENCE: Duration = Duration::from_secs(11);
/// For runtimes to start, once schedulers have found their places.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the end of everything, which without the rule may never come.
const END: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What gives devices back, beside the executor's word.
#[derive(Clone, Copy, PartialEq)]
enum Release {
    /// Nothing.
    Nothing,
    /// The end of an executor's lease: somebody takes its silence for its end.
    Lease,
}

struct Play {
    setup: Setup,
    workspaces: Vec<(&'static str, Uuid)>,
    fleets: Vec<Declared>,
}

impl Play {
    async fn start() -> Result<Self> {
        let setup = Setup::new(2).await?;
        Witness::install(&setup.sql, Detail::Owners).await?;
        let workspaces = WORLD.fill(&setup.sql, WORKSPACES, None).await?;
        let fleet = |pool: &&str| {
            let nodes = Nodes { pool: (*pool).to_owned(), linger: LINGER, is_blind: true, ..Nodes::default() };
            let journal = setup.cluster.history().join(format!("executor-declared-{pool}.jsonl"));
            Declared::start(nodes, setup.cluster.schedulers()?, &journal)
        };
        let fleets = WORLD.pools.iter().map(fleet).collect::<Result<_>>()?;
        Ok(Self { setup, workspaces, fleets })
    }

    async fn start_all(&self) -> Result<()> {
        for (at, (pool, workspace)) in self.workspaces.iter().enumerate() {
            // What runs is not started again, and a pool whose owner is not known yet is asked again.
            let _ = Caller::new(&self.setup.cluster, pool, at)?.start(*workspace).await;
        }
        Ok(())
    }

    /// Tells whoever has devices to end; as the word of somebody who says that the node is gone, where it is `lost`.
    async fn end_holders(&self, lost: bool) -> Result<()> {
        let holders = "SELECT r.workspace_id FROM runtime r JOIN placement p USING (holder) WHERE p.state = 'held'";
        let rows = self.setup.sql.query(holders, &[]).await?;
        let holders: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        for (at, (pool, workspace)) in self.workspaces.iter().enumerate() {
            if holders.contains(workspace) {
                let caller = Caller::new(&self.setup.cluster, pool, at)?;
                let _ = if lost { caller.fence(*workspace).await } else { caller.stop(*workspace).await };
            }
        }
        Ok(())
    }

    fn started(&self) -> u64 {
        self.fleets.iter().map(Declared::started).sum()
    }

    /// Starts whatever does not run, until more than so many were started.
    async fn until_started(&self, more_than: u64) -> Result<()> {
        let begun = Instant::now();
        while self.started() <= more_than {
            ensure!(begun.elapsed() < PATIENCE, "no runtime starts after the first {more_than}");
            self.start_all().await?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn finish(self) -> Result<Report> {
        let begun = Instant::now();
        while is_empty(&self.setup.sql).await? > 0 && begun.elapsed() < END {
            for (at, (pool, workspace)) in self.workspaces.iter().enumerate() {
                let _ = Caller::new(&self.setup.cluster, pool, at)?.stop(*workspace).await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let folder = self.setup.cluster.history();
        for fleet in self.fleets {
            fleet.close().await?;
        }
        Witness::dump(&self.setup.sql, &folder).await?;
        Promises { must_check: vec![Check::C4], ..Promises::default() }.write(&folder)?;
        let report = check(&History::read(&folder)?);
        println!("{report}");
        Ok(report)
    }
}

async fn played(release: Release) -> Result<Report> {
    let play = Play::start().await?;
    play.until_started(2).await?;
    if release == Release::Lease {
        play.fleets.iter().for_each(|fleet| fleet.freeze(true));
        tokio::time::sleep(SILENCE).await;
        play.end_holders(true).await?;
        let started = play.started();
        play.fleets.iter().for_each(|fleet| fleet.freeze(false));
        play.until_started(started).await?;
    } else {
        for _ in 0..ROUNDS {
            let started = play.started();
            play.end_holders(false).await?;
            play.until_started(started).await?;
        }
    }
    play.finish().await
}

fn c4(report: &Report) -> Result<Standing> {
    Ok(report.verdicts.iter().find(|verdict| verdict.check == Check::C4).context("the check of devices")?.standing)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_by_the_executors_word_has_one_holder() -> Result<()> {
    let _alone = ALONE.lock().await;
    assert_eq!(c4(&played(Release::Nothing).await?)?, Standing::Held);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_with_a_lease_has_two() -> Result<()> {
    let _alone = ALONE.lock().await;
    assert_eq!(c4(&played(Release::Lease).await?)?, Standing::Broken);
    Ok(())
}

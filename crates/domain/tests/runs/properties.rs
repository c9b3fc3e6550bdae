//! What holds of every pipeline, every outcome and every order. What must hold at each step is checked by `World`.

use crate::{
    random::{Act, Play, acts, plan, wild_acts},
    world::World,
};
use domain::unit::{UnitKey, UnitRow};
use proptest::prelude::*;
use std::sync::Arc;

/// A failing case is printed whole; nothing is written beside the sources.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever executors, owners and people do, every run ends, and everything in it.
    #[test]
    fn every_run_ends(plan in plan(), acts in wild_acts(), order in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut play = Play::new(&plan);
        for act in acts {
            play.act(act);
        }
        play.run_out(&order);
    }

    /// Nobody can tell from the result in which order things happened, who owned the run, or what was lost once.
    #[test]
    fn the_result_does_not_depend_on_the_order(
        plan in plan(),
        one in acts(),
        other in acts(),
        order in prop::collection::vec(any::<u8>(), 0..40),
        losses in prop::collection::vec((0..80_usize, any::<u8>()), 0..2),
    ) {
        let plan = plan.unstoppable();
        let mut calm = Play::new(&plan);
        calm.run_out(&[]);
        let expected = calm.world.outcome();
        let mut one_with_losses = one;
        for (position, executor) in losses {
            let position = position.min(one_with_losses.len());
            one_with_losses.insert(position, Act::Lose(executor));
        }
        for acts in [one_with_losses, other] {
            let mut play = Play::new(&plan);
            for act in acts {
                play.act(act);
            }
            play.run_out(&order);
            prop_assert_eq!(play.world.outcome(), expected.clone());
        }
    }

    /// A run in which nothing fails completes.
    #[test]
    fn a_flawless_run_completes(plan in plan(), acts in acts()) {
        let plan = plan.flawless();
        let mut play = Play::new(&plan);
        for act in acts {
            play.act(act);
        }
        play.run_out(&[]);
        prop_assert_eq!(play.world.run_status(), "completed");
    }

    /// Retrying repeats no block that has completed, but what read of one that is run again; and all, where what they made lay in
    /// the memory of a process that has ended.
    #[test]
    fn a_retry_keeps_what_completed(plan in plan(), acts in wild_acts()) {
        let mut play = Play::new(&plan);
        for act in acts {
            play.act(act);
        }
        play.run_out(&[]);
        let ended_well = |row: &UnitRow| matches!(row.status.as_str(), "completed" | "condition_failed");
        let graph = Arc::clone(&play.world.graph);
        let mut again = vec![graph.pipeline().keeps_outputs_in_memory(); graph.len()];
        for &at in graph.order() {
            let is_incomplete = !ended_well(&play.world.rows[&UnitKey::block(at, None)]);
            again[at] |= is_incomplete || graph.node(at).upstream.iter().any(|(up, _)| again[*up]);
        }
        let leases = |world: &World| -> Vec<i64> {
            (0..graph.len()).map(|at| world.rows[&UnitKey::block(at, None)].lease).collect()
        };
        let before = leases(&play.world);
        play.act(Act::RetryIncomplete);
        play.run_out(&[]);
        for (at, (before, after)) in before.into_iter().zip(leases(&play.world)).enumerate() {
            prop_assert!(again[at] || before == after, "block {} ran again", at);
        }
    }
}

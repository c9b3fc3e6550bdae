//! The fault matrix, small: every row that breaks a cluster in a way of its own, each as a test of its own.
//!
//! What must hold is judged and the fault must bite; figures are only printed, since nothing here is optimised and other
//! tests run beside it. `cargo xtask load faults` holds them against their bars.
//!
//! They take minutes, so `cargo xtask test` leaves them out, by their names, and `cargo xtask ci` runs them.

use anyhow::{Context, Result, ensure};
use load_tests::faults::{self, Outcome, ROWS, Row, SMOKE, Verdict};
use std::time::Duration;

/// The seeds of a smoke, one after the other until its fault bites: so small a load may pass a broken process by. That nothing is
/// lost or doubled is judged in every try. `cargo xtask load faults --row N --seed S` tries others.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Longer than the waits inside a row: it ends a row that hangs, and judges none.
const ROW_TIMEOUT: Duration = Duration::from_secs(600);

async fn smoke(number: &str) -> Result<()> {
    let row = ROWS.iter().find(|row| row.number == number).context("a row of the matrix")?;
    let mut outcome = play(row, SEEDS[0]).await?;
    for seed in &SEEDS[1..] {
        if outcome.verdict != Verdict::DidNotBite {
            break;
        }
        outcome = play(row, *seed).await?;
    }
    let wanted = if NOT_HERE.contains(&number) { Verdict::NotHere } else { Verdict::Held };
    ensure!(outcome.verdict == wanted, "row {number} ended as {:?}:\n{}", outcome.verdict, outcome.seen);
    Ok(())
}

async fn play(row: &'static Row, seed: u64) -> Result<Outcome> {
    let played = tokio::time::timeout(ROW_TIMEOUT, faults::run_row(row, SMOKE, seed, false)).await;
    let outcome = played.with_context(|| format!("row {} did not end within {ROW_TIMEOUT:?}", row.number))??;
    faults::print(&outcome);
    Ok(outcome)
}

macro_rules! rows {
    ($($test:ident: $number:literal,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() -> Result<()> {
            smoke($number).await
        })*

        /// Every row has its test.
        const TESTED: &[&str] = &[$($number),*];
    };
}

/// Rows that are rougher here than anywhere in nothing but what they measure, and a smoke judges no figures: what is not lost or
/// doubled in such weather is held by row 9c.
const FIGURES_ONLY: &[&str] = &["9d"];

/// Rows that say why they are not run.
const NOT_HERE: &[&str] = &["11"];

rows! {
    matrix_row_01_a_scheduler_is_killed: "1",
    matrix_row_01b_a_scheduler_is_killed_without_redis: "1b",
    matrix_row_02_a_scheduler_is_frozen: "2",
    matrix_row_02b_a_scheduler_is_frozen_without_redis: "2b",
    matrix_row_03_the_lock_lies: "3",
    matrix_row_04_redis_is_lost: "4",
    matrix_row_05_postgres_is_restarted: "5",
    matrix_row_06_sessions_are_ended: "6",
    matrix_row_07_a_standby_takes_over: "7",
    matrix_row_07b_a_standby_takes_over_that_is_behind: "7b",
    matrix_row_08_a_scheduler_loses_its_database: "8",
    matrix_row_08a_a_scheduler_loses_its_database_without_redis: "8a",
    matrix_row_08b_an_executor_is_cut_off: "8b",
    matrix_row_08c_a_scheduler_is_cut_off: "8c",
    matrix_row_08d_one_direction_is_cut: "8d",
    matrix_row_09_the_weather_is_bad: "9",
    matrix_row_09b_the_weather_tears: "9b",
    matrix_row_09c_the_weather_is_a_storm: "9c",
    matrix_row_10_clocks_are_wrong: "10",
    matrix_row_11_seasons_change: "11",
    matrix_row_12_disks_are_full: "12",
    matrix_row_12b_the_disk_of_postgres_is_full: "12b",
    matrix_row_13_an_executor_is_killed: "13",
    matrix_row_14_an_executor_is_frozen: "14",
    matrix_row_14b_an_executor_with_devices_is_frozen: "14b",
    matrix_row_15_calls_come_twice: "15",
    matrix_row_16_readers_are_slow: "16",
    matrix_row_17_a_transaction_is_held: "17",
    matrix_row_18_thousands_are_due_at_once: "18",
    matrix_row_19_everything_is_restarted_in_turn: "19",
    matrix_row_20_triggers_are_edited: "20",
    matrix_row_21_schedulers_come_and_go: "21",
    matrix_row_22_many_want_few_devices: "22",
}

#[test]
fn every_row_has_a_test() {
    let rows: Vec<&str> = ROWS.iter().map(|row| row.number).filter(|row| !FIGURES_ONLY.contains(row)).collect();
    assert_eq!(rows, TESTED);
}

//! The fault matrix, small: every row that breaks a cluster, each as a test of its own.
//!
//! What must hold is judged and the fault must bite; figures are only printed, since nothing here is optimised and other
//! tests run beside it. `cargo xtask load faults` holds them against their bars.
//!
//! Half of the rows run with every other test; all of them, which takes eight minutes, with `-- --include-ignored`.

use anyhow::{Context, Result, ensure};
use load_tests::faults::{self, ROWS, SMOKE, Verdict};
use std::time::Duration;

/// The seed of every smoke; `cargo xtask load faults --row N --seed S` tries others.
const SEED: u64 = 1;
/// The slowest row takes a minute.
const ROW_TIMEOUT: Duration = Duration::from_secs(240);

async fn smoke(number: &str) -> Result<()> {
    let row = ROWS.iter().find(|row| row.number == number).context("a row of the matrix")?;
    let played = tokio::time::timeout(ROW_TIMEOUT, faults::run_row(row, SMOKE, SEED, false)).await;
    let outcome = played.with_context(|| format!("row {number} did not end within {ROW_TIMEOUT:?}"))??;
    faults::print(&outcome);
    let wanted = if NOT_HERE.contains(&number) { Verdict::NotHere } else { Verdict::Held };
    ensure!(outcome.verdict == wanted, "row {number} ended as {:?}:\n{}", outcome.verdict, outcome.seen);
    Ok(())
}

macro_rules! rows {
    ($($(#[$attribute:meta])* $test:ident: $number:literal,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        $(#[$attribute])*
        async fn $test() -> Result<()> {
            smoke($number).await
        })*

        /// Every row has its test.
        const TESTED: &[&str] = &[$($number),*];
    };
}

/// Rows that say why they are not run.
const NOT_HERE: &[&str] = &["11"];

rows! {
    row_01_a_scheduler_is_killed: "1",
    row_02_a_scheduler_is_frozen: "2",
    row_03_the_lock_lies: "3",
    row_04_redis_is_lost: "4",
    row_05_postgres_is_restarted: "5",
    #[ignore = "the whole matrix takes minutes"]
    row_06_sessions_are_ended: "6",
    #[ignore = "the whole matrix takes minutes"]
    row_07_a_standby_takes_over: "7",
    #[ignore = "the whole matrix takes minutes"]
    row_08_a_scheduler_loses_its_database: "8",
    #[ignore = "the whole matrix takes minutes"]
    row_08b_an_executor_is_cut_off: "8b",
    #[ignore = "the whole matrix takes minutes"]
    row_08c_a_scheduler_is_cut_off: "8c",
    #[ignore = "the whole matrix takes minutes"]
    row_09_the_weather_is_bad: "9",
    #[ignore = "the whole matrix takes minutes"]
    row_10_clocks_are_wrong: "10",
    row_11_seasons_change: "11",
    #[ignore = "the whole matrix takes minutes"]
    row_12_disks_are_full: "12",
    #[ignore = "the whole matrix takes minutes"]
    row_12b_the_disk_of_postgres_is_full: "12b",
    row_13_an_executor_is_killed: "13",
    #[ignore = "the whole matrix takes minutes"]
    row_14_an_executor_is_frozen: "14",
    row_14b_an_executor_with_devices_is_frozen: "14b",
    row_15_calls_come_twice: "15",
    #[ignore = "the whole matrix takes minutes"]
    row_16_readers_are_slow: "16",
    #[ignore = "the whole matrix takes minutes"]
    row_17_a_transaction_is_held: "17",
    row_18_thousands_are_due_at_once: "18",
    row_19_everything_is_restarted_in_turn: "19",
    row_20_triggers_are_edited: "20",
    #[ignore = "the whole matrix takes minutes"]
    row_21_schedulers_come_and_go: "21",
    row_22_many_want_few_devices: "22",
}

#[test]
fn every_row_has_a_test() {
    let rows: Vec<&str> = ROWS.iter().map(|row| row.number).collect();
    assert_eq!(rows, TESTED);
}

//! In which order the lines of one answer are told: as they were written, though the executor of one stored it later than
//! that of another. Refuses to choose which lines an answer has: their ids do, so that no cursor skips what is stored late.

use jiff::Timestamp;
use std::collections::HashMap;
use store::log_views::Line;

/// Lines as they were stored, by their times. What one attempt wrote stays in its order, though its clock was set back.
pub(crate) fn by_time(lines: Vec<Line>) -> Vec<Line> {
    let mut latest: HashMap<(&str, i32, i64), Timestamp> = HashMap::new();
    let mut times = Vec::with_capacity(lines.len());
    for line in &lines {
        let latest = latest.entry((&line.block, line.child, line.lease)).or_insert(line.at);
        *latest = line.at.max(*latest);
        times.push(*latest);
    }
    let mut timed: Vec<(Timestamp, Line)> = times.into_iter().zip(lines).collect();
    timed.sort_by_key(|(at, _)| *at);
    timed.into_iter().map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_by_their_times_and_those_of_one_attempt_in_their_order() {
        let check = |stored: &[(&str, i64)], expect: &[i64]| {
            let line = |(id, (block, second)): (i64, &(&str, i64))| Line {
                id,
                at: Timestamp::from_second(*second).unwrap(),
                block: (*block).to_owned(),
                child: -1,
                lease: 1,
                level: 20,
                stream: String::new(),
                message: String::new(),
                block_type: String::new(),
            };
            let told: Vec<i64> = by_time((1..).zip(stored).map(line).collect()).iter().map(|line| line.id).collect();
            assert_eq!(told, expect, "{stored:?}");
        };
        check(&[], &[]);
        check(&[("a", 1), ("a", 3), ("b", 2), ("b", 4)], &[1, 3, 2, 4]);
        check(&[("a", 1), ("b", 1), ("a", 1)], &[1, 2, 3]);
        // The clock of `a` was set back: what it wrote then is not before what it wrote before.
        check(&[("a", 5), ("a", 1), ("b", 3), ("b", 6)], &[3, 1, 2, 4]);
    }
}

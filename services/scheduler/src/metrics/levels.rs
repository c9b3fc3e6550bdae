//! Levels that several duties of one process add up to, each its own part. Refuses to know what is counted.

use prometheus::IntGaugeVec;
use std::collections::HashMap;

/// The part of one duty in a gauge: it is told whole, what it names no more becomes nothing, and all of it goes with the duty.
/// So a pool that another scheduler has by now is not counted twice.
pub(crate) struct Levels {
    gauge: IntGaugeVec,
    told: HashMap<Vec<String>, i64>,
}

impl Levels {
    /// Nothing yet.
    pub(crate) fn of(gauge: &IntGaugeVec) -> Self {
        Self { gauge: gauge.clone(), told: HashMap::new() }
    }

    /// How things stand, by the values of the gauge's labels in their order.
    pub(crate) fn tell(&mut self, now: HashMap<Vec<String>, i64>) {
        for (labels, level) in &now {
            let before = self.told.remove(labels).unwrap_or(0);
            self.add(labels, level - before);
        }
        let gone = std::mem::replace(&mut self.told, now);
        gone.iter().for_each(|(labels, before)| self.add(labels, -before));
    }

    fn add(&self, labels: &[String], by: i64) {
        self.gauge.with_label_values(&labels.iter().map(String::as_str).collect::<Vec<_>>()).add(by);
    }
}

impl Drop for Levels {
    fn drop(&mut self) {
        self.tell(HashMap::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;

    #[test]
    fn parts_add_up_and_go_with_whoever_told_them() {
        let gauge = IntGaugeVec::new(Opts::new("waiting", "how many"), &["queue"]).unwrap();
        let of = |queue: &str| gauge.with_label_values(&[queue]).get();
        let level = |queue: &str, n: i64| HashMap::from([(vec![queue.to_owned()], n)]);
        let (mut one, mut other) = (Levels::of(&gauge), Levels::of(&gauge));
        one.tell(level("gold", 3));
        other.tell(level("gold", 4));
        assert_eq!(of("gold"), 7);
        one.tell(level("gold", 1));
        other.tell(level("iron", 2));
        assert_eq!((of("gold"), of("iron")), (1, 2));
        drop(other);
        assert_eq!((of("gold"), of("iron")), (1, 0));
    }
}

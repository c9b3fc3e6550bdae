//! What would help somebody who waits, in words that are stored.

use jiff::Timestamp;
use placement::Hint;

/// Hints as one sentence; empty without any.
pub(super) fn hints(hints: &[Hint], now: Timestamp) -> String {
    hints.iter().map(|hint| stored(hint, now)).collect::<Vec<_>>().join("; ")
}

/// It is read later than it is written, so it says when, and not in how long.
fn stored(hint: &Hint, now: Timestamp) -> String {
    match hint {
        Hint::Turn { position, at, preempts_at } => {
            let turn = at.map(|at| at.strftime(", at %Y-%m-%d %H:%M UTC or so").to_string());
            let turn = turn.unwrap_or_else(|| "; when is not known".to_owned());
            let others = "; others may be stopped for it from %Y-%m-%d %H:%M:%S UTC on";
            let others = preempts_at.map(|at| at.strftime(others).to_string()).unwrap_or_default();
            format!("position {position}{turn}{others}")
        }
        other => other.sentence(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Hint = Hint::Turn { position: 3, at: None, preempts_at: None };

    #[test]
    fn hints_are_one_sentence() {
        let now = Timestamp::UNIX_EPOCH;
        let all = [Hint::Share { gpu_milli: 405 }, Hint::FewerGpus { gpus: 1 }, TURN];
        let said = "it fits now with 40.5 % of each GPU; it fits now with 1 GPU; position 3; when is not known";
        assert_eq!(hints(&all, now), said);
        assert_eq!(
            hints(&[Hint::Turn { position: 3, at: Some(now), preempts_at: None }], now),
            "position 3, at 1970-01-01 00:00 UTC or so"
        );
        assert_eq!(
            hints(&[Hint::Turn { position: 3, at: None, preempts_at: Some(now) }], now),
            "position 3; when is not known; others may be stopped for it from 1970-01-01 00:00:00 UTC on"
        );
    }
}

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
        Hint::Turn { position, at: Some(at) } => {
            format!("position {position}, at {} or so", at.strftime("%Y-%m-%d %H:%M UTC"))
        }
        other => other.sentence(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_one_sentence() {
        let now = Timestamp::UNIX_EPOCH;
        let all = [Hint::Share { gpu_milli: 405 }, Hint::FewerGpus { gpus: 1 }, Hint::Turn { position: 3, at: None }];
        let said = "it fits now with 40.5 % of each GPU; it fits now with 1 GPU; position 3; when is not known";
        assert_eq!(hints(&all, now), said);
        assert_eq!(
            hints(&[Hint::Turn { position: 3, at: Some(now) }], now),
            "position 3, at 1970-01-01 00:00 UTC or so"
        );
    }
}

//! What starts that wait are to be told. Refuses to know why they wait, and for how long.

use domain::trigger::Start;
use serde::{Deserialize, Serialize};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};
use std::collections::{BTreeMap, HashSet};

/// What a start that waits is to be told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::engine) struct Told {
    pub(in crate::engine) variables: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::engine) event_variables: Option<String>,
    /// The trace of whoever asked; empty when nobody traces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(in crate::engine) traceparent: String,
}

/// What all starts that wait for one trigger are to be told, by their keys. As texts: each is read once, when it starts, and all
/// are written whenever one comes or goes. A decision that leaves them as they are writes none.
pub(in crate::engine) struct Waits {
    told: BTreeMap<String, Box<RawValue>>,
    /// The start that is being decided about, until it is known whether it waits. Of most triggers there is never one.
    offered: Option<Box<(String, Told)>>,
    /// Since they were last to be stored.
    changed: bool,
}

impl Waits {
    /// As they were stored, if anything was. What cannot be read was not written by this version.
    pub(in crate::engine) fn read(stored: Option<Value>) -> Self {
        let changed = stored.is_none();
        let told = stored.and_then(|stored| serde_json::from_value(stored).ok()).unwrap_or_default();
        Self { told, offered: None, changed }
    }

    /// A start is to be told this if it begins now, or else if it waits.
    pub(in crate::engine) fn offer(&mut self, key: String, told: Told) {
        self.offered = Some(Box::new((key, told)));
    }

    /// What a start is told that begins.
    pub(in crate::engine) fn take(&mut self, key: &str) -> Told {
        if let Some(offered) = self.offered.take_if(|offered| offered.0 == key) {
            return offered.1;
        }
        let Some(text) = self.told.remove(key) else { return Told::default() };
        self.changed = true;
        serde_json::from_str(text.get()).unwrap_or_default()
    }

    /// These wait from now on, and no others.
    pub(in crate::engine) fn keep(&mut self, waiting: &[Start]) {
        let keys: HashSet<&str> = waiting.iter().map(|start| start.key.as_str()).collect();
        let before = self.told.len();
        self.told.retain(|key, _| keys.contains(key.as_str()));
        self.changed |= self.told.len() < before;
        let offered = self.offered.take().filter(|offered| keys.contains(offered.0.as_str()));
        if let Some((key, told)) = offered.map(|offered| *offered)
            && let Ok(text) = to_raw_value(&told)
        {
            self.told.insert(key, text);
            self.changed = true;
        }
    }

    /// All of them, as they are stored; nothing when they are stored like that already, or in a decision before this one.
    pub(in crate::engine) fn unstored(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        serde_json::to_string(&self.told).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    fn told(n: u64) -> Told {
        Told { variables: Map::from_iter([("n".to_owned(), n.into())]), ..Told::default() }
    }

    fn start(key: &str) -> Start {
        Start { key: key.to_owned(), at: Timestamp::UNIX_EPOCH, bytes: 0 }
    }

    #[test]
    fn what_waits_is_stored_when_it_changes_and_told_once() {
        let mut waits = Waits::read(None);
        assert_eq!(waits.unstored().as_deref(), Some("{}"), "the first decision says what there is");
        for (n, key) in [(1, "a"), (2, "b")] {
            waits.offer(key.to_owned(), told(n));
            waits.keep(&[start("a"), start("b")]);
        }
        let stored = waits.unstored().unwrap();
        let mut waits = Waits::read(serde_json::from_str(&stored).ok());
        // One that is skipped, one that begins at once, and an end of a run: nothing of what waits has changed.
        waits.offer("c".to_owned(), told(3));
        waits.keep(&[start("a"), start("b")]);
        waits.offer("d".to_owned(), told(4));
        assert_eq!(waits.take("d"), told(4));
        waits.keep(&[start("a"), start("b")]);
        assert_eq!(waits.unstored(), None);
        assert_eq!((waits.take("a"), waits.take("a")), (told(1), Told::default()));
        waits.keep(&[start("b")]);
        let stored: Value = serde_json::from_str(&waits.unstored().unwrap()).unwrap();
        assert_eq!(stored, json!({ "b": { "variables": { "n": 2 } } }));
        assert_eq!(waits.unstored(), None);
        waits.keep(&[]);
        assert_eq!(waits.unstored().as_deref(), Some("{}"));
    }
}

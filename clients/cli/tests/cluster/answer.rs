//! What the command line answered.

use serde_json::Value;
use std::process::Output;

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Answer {
    /// The last line of stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
}

/// A run and its blocks, as they were asked for.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) run: Value,
    pub(crate) blocks: Vec<Value>,
}

impl Run {
    pub(crate) fn status(&self) -> &str {
        self.run["status"].as_str().unwrap_or_default().trim_start_matches("RUN_STATUS_")
    }

    pub(crate) fn id(&self) -> &str {
        self.run["id"].as_str().unwrap_or_default()
    }

    /// The block itself, not a child of it.
    #[track_caller]
    pub(crate) fn block(&self, uuid: &str) -> Block<'_> {
        self.child(uuid, -1)
    }

    #[track_caller]
    pub(crate) fn child(&self, uuid: &str, child: i64) -> Block<'_> {
        let found = self.blocks.iter().find(|b| b["block"] == uuid && b["child"] == child);
        Block(found.unwrap_or_else(|| panic!("no block {uuid}[{child}] in {self:#?}")))
    }

    pub(crate) fn children(&self, uuid: &str) -> usize {
        self.blocks.iter().filter(|b| b["block"] == uuid && b["child"] != -1).count()
    }

    /// `block=STATUS` of every block without children.
    pub(crate) fn summary(&self) -> Vec<String> {
        let own = self.blocks.iter().filter(|b| b["child"] == -1);
        own.map(|b| format!("{}={}", b["block"].as_str().unwrap_or_default(), Block(b).status())).collect()
    }

    #[track_caller]
    pub(crate) fn completed(self) -> Self {
        self.ended("COMPLETED")
    }

    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        self.ended("FAILED")
    }

    #[track_caller]
    pub(crate) fn ended(self, status: &str) -> Self {
        assert_eq!(self.status(), status, "{self:#?}");
        assert!(self.run["completedAt"].is_string(), "{self:#?}");
        self
    }
}

/// One block run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a>(pub(crate) &'a Value);

impl Block<'_> {
    pub(crate) fn status(&self) -> &str {
        self.0["status"].as_str().unwrap_or_default().trim_start_matches("BLOCK_RUN_STATUS_")
    }

    pub(crate) fn attempts(&self) -> i64 {
        self.0["attempts"].as_i64().unwrap_or_default()
    }

    pub(crate) fn executor(&self) -> &str {
        self.0["executor"].as_str().unwrap_or_default()
    }

    /// Its error has this code, and its message holds all the words.
    #[track_caller]
    pub(crate) fn failed_with(&self, code: &str, words: &[&str]) {
        let error = &self.0["error"];
        assert_eq!((self.status(), error["code"].as_str()), ("FAILED", Some(code)), "{self:#?}");
        let message = error["message"].as_str().unwrap_or_default();
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
    }
}

//! Projects for load: folders of files as Mage has them, written into a temporary folder.

use anyhow::Result;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// A project folder named `load` below `root`.
pub struct ProjectFolder<'a> {
    root: &'a Path,
}

impl<'a> ProjectFolder<'a> {
    /// Creates it.
    pub fn create(root: &'a Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        let project = Self { root };
        // Load is held back by executors' slots, not by Mage's default of 20 blocks at once.
        project.limit_blocks(1_000_000)?;
        Ok(project)
    }

    /// Lets so many blocks run at once, over all pipelines.
    pub fn limit_blocks(&self, blocks: i64) -> Result<()> {
        let metadata = format!("project_type: standalone\nqueue_config:\n  concurrency: {blocks}\n");
        Ok(fs::write(self.root.join("metadata.yaml"), metadata)?)
    }

    /// Adds a pipeline.
    pub fn pipeline(&self, name: &str, blocks: &[Value]) -> Result<()> {
        self.describe(name, &json!({ "name": name, "uuid": name, "type": "python", "blocks": blocks }))
    }

    /// Adds a pipeline of which so many blocks of a run may run at once.
    pub fn limited_pipeline(&self, name: &str, blocks: &[Value], at_once: usize) -> Result<()> {
        let limits = json!({ "block_run_limit": at_once });
        let metadata =
            json!({ "name": name, "uuid": name, "type": "python", "blocks": blocks, "concurrency_config": limits });
        self.describe(name, &metadata)
    }

    fn describe(&self, name: &str, metadata: &Value) -> Result<()> {
        let folder = self.root.join("pipelines").join(name);
        fs::create_dir_all(&folder)?;
        // JSON is YAML.
        fs::write(folder.join("metadata.yaml"), serde_json::to_string_pretty(metadata)?)?;
        Ok(())
    }

    /// Adds the file of a custom block.
    pub fn custom(&self, block: &str, code: &str) -> Result<()> {
        let folder = self.root.join("custom");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{block}.py")), code)?;
        Ok(())
    }
}

/// A block that the executor completes without a process.
pub fn noop<S: AsRef<str> + serde::Serialize>(uuid: &str, upstream: &[S]) -> Value {
    json!({ "uuid": uuid, "name": uuid, "type": "custom", "language": "python", "executor_type": "noop", "upstream_blocks": upstream })
}

/// A dynamic no-op with so many items.
pub fn noop_items(uuid: &str, items: u32) -> Value {
    let mut block = noop::<&str>(uuid, &[]);
    block["configuration"] = json!({ "dynamic": true, "items": items });
    block
}

/// A block of Python code.
pub fn python(uuid: &str, upstream: &[&str]) -> Value {
    json!({ "uuid": uuid, "name": uuid, "type": "custom", "language": "python", "upstream_blocks": upstream })
}

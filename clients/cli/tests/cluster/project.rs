//! Mage project folders, written by tests.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// A block whose n-th attempt, the first being 1, tells `begun-n`, waits for `go-n`, and returns n.
pub(crate) const WAITS: &str = "
import os, time
@data_loader
def f(*args, **kwargs):
    meet, attempt = kwargs['meet'], 1
    while os.path.exists(f'{meet}/begun-{attempt}'):
        attempt += 1
    with open(f'{meet}/begun-{attempt}', 'x') as file:
        print(os.getpid(), file=file)
    while not os.path.exists(f'{meet}/go-{attempt}'):
        time.sleep(0.02)
    return attempt
";

/// One block of a pipeline, and its file.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    uuid: &'static str,
    kind: &'static str,
    code: String,
    upstream: &'static [&'static str],
    more: &'static str,
}

/// A block of a kind, such as `data_loader`, with its code.
pub(crate) fn step(kind: &'static str, uuid: &'static str, code: impl Into<String>) -> Step {
    Step { uuid, kind, code: code.into(), upstream: &[], more: "" }
}

impl Step {
    pub(crate) fn after(mut self, upstream: &'static [&'static str]) -> Self {
        self.upstream = upstream;
        self
    }

    /// Further keys, as the inside of a YAML map in one line.
    pub(crate) fn with(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    fn list(&self) -> &'static str {
        match self.kind {
            "conditional" => "conditionals",
            "callback" => "callbacks",
            _ => "blocks",
        }
    }

    fn folder(&self) -> String {
        if self.kind == "custom" { "custom".to_owned() } else { format!("{}s", self.kind) }
    }

    fn extension(&self) -> &'static str {
        if self.more.contains("language: sql") { "sql" } else { "py" }
    }
}

/// A folder below `root`; its own name is the project's.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
}

impl Project {
    pub(crate) fn new(root: PathBuf) -> Self {
        let project = Self { root };
        project.write("metadata.yaml", "project_type: standalone\n");
        project
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A pipeline and the files of its blocks; `top` are further lines of its metadata.
    pub(crate) fn pipeline(&self, name: &str, top: &str, steps: &[Step]) {
        let mut yaml = format!("uuid: {name}\ntype: python\n{top}\n");
        for list in ["blocks", "conditionals", "callbacks"] {
            let _ = writeln!(yaml, "{list}:");
            for step in steps.iter().filter(|s| s.list() == list) {
                let Step { uuid, kind, upstream, more, .. } = step;
                let language = if more.contains("language:") { "" } else { ", language: python" };
                let more = if more.is_empty() { String::new() } else { format!(", {more}") };
                let upstream = upstream.join(", ");
                let _ =
                    writeln!(yaml, "- {{uuid: {uuid}, type: {kind}, upstream_blocks: [{upstream}]{language}{more}}}");
                self.write(&format!("{}/{uuid}.{}", step.folder(), step.extension()), &step.code);
            }
            if steps.iter().all(|s| s.list() != list) {
                let _ = writeln!(yaml, "  []");
            }
        }
        self.write(&format!("pipelines/{name}/metadata.yaml"), &yaml);
    }
}

//! The sample project that newcomers see first has nothing to complain about.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is built from")]

use domain::graph::Graph;
use std::{path::Path, sync::Arc};

#[test]
fn hello_is_clean() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
    let project = project::load(&root, &|_| None);
    assert_eq!(project.diagnostics, []);
    assert_eq!((project.name.as_str(), project.requirements_digest.as_deref()), ("hello", None));
    let shapes: Vec<_> = project
        .definitions()
        .map(|p| (p.name.as_str(), p.blocks.len(), p.conditionals.len(), p.callbacks.len()))
        .collect();
    assert_eq!(shapes, [("everything", 6, 1, 1), ("fan_out", 3, 0, 0), ("penguins", 5, 0, 0)]);
    let fan_out = project.definitions().find(|p| p.name == "fan_out").unwrap();
    let graph = Graph::new(Arc::new(fan_out.clone())).unwrap();
    assert!(graph.node(graph.find("survive_winter").unwrap()).is_fan);
    assert!(!graph.node(graph.find("summarise_winter").unwrap()).is_fan);
    let manifest = project::bundle::scan(&root).unwrap().manifest;
    assert_eq!(manifest.validate(), Ok(Vec::new()));
    assert!(manifest.files.iter().any(|file| file.path == "data/observations.csv"));
}

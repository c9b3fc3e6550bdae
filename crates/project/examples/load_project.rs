//! Reads a project folder and prints what there is to know: `cargo run -p project --example load_project -- <folder>`.
#![expect(clippy::print_stdout, reason = "it is a command")]

use std::{env, path::Path};

fn main() {
    for folder in env::args().skip(1) {
        let project = project::load(Path::new(&folder), &|name| env::var(name).ok());
        let good = project.definitions().count();
        let blocks: usize =
            project.definitions().map(|p| p.blocks.len() + p.conditionals.len() + p.callbacks.len()).sum();
        let triggers: usize = project.pipelines.iter().map(|p| p.triggers.len()).sum();
        println!(
            "{}: {good} of {} pipelines, {blocks} blocks, {triggers} triggers, {} errors, {} warnings",
            project.name,
            project.pipelines.len(),
            project.errors(),
            project.diagnostics.len() - project.errors()
        );
        for diagnostic in &project.diagnostics {
            println!("  {diagnostic}");
        }
        match project::bundle::scan(Path::new(&folder)) {
            Ok(scanned) => println!("  {} files, {}", scanned.manifest.files.len(), scanned.manifest.digest()),
            Err(error) => println!("  {error}"),
        }
    }
}

//! What a workspace's runtime is to be: the container with the editor and the devices.
//!
//! Refuses to know who may ask for what, where it runs and how a backend makes it so.

pub mod activity;
pub mod gang;
pub mod life;
pub mod reason;
pub mod rules;

use crate::{device::Ask, id::VolumeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is asked for, as it is stored and as a backend is told. New fields have defaults, so that older rows are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What is opened.
    pub app: App,
    /// The image, with or without a digest; empty where the backend has none, and for its default.
    #[serde(default)]
    pub image: String,
    /// Devices, processor and memory that it is sure of.
    pub ask: Ask,
    /// The most processor that it gets, thousandths of a core; 0 is as much as `ask`.
    #[serde(default)]
    pub cpu_limit_milli: u64,
    /// The most memory that it gets, bytes; 0 is as much as `ask`.
    #[serde(default)]
    pub memory_limit_bytes: u64,
    /// Disk that it may fill beside its volumes, bytes; 0 is whatever its backend gives without being asked.
    #[serde(default)]
    pub storage_bytes: u64,
    /// Environment of the application.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Volumes that it mounts.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Runs as user 0; with no further privilege.
    #[serde(default)]
    pub root: bool,
    /// Between runtimes of one queue, greater is served first.
    #[serde(default)]
    pub priority: i32,
    /// Stopped when nobody used it and nothing worked in it for so long, seconds; 0 is never.
    #[serde(default)]
    pub idle_timeout_s: u32,
    /// Stopped when its devices did nothing for so long, seconds; 0 is never.
    #[serde(default)]
    pub gpu_idle_timeout_s: u32,
    /// Stopped after so long whatever it does, seconds; 0 is never.
    #[serde(default)]
    pub lifetime_s: u32,
    /// From asking it to end to ending it, seconds; 0 is the cluster's default.
    #[serde(default)]
    pub grace_s: u32,
    /// Waits again in its queue after it was stopped for others.
    #[serde(default)]
    pub requeue: bool,
    /// Python source with `get_custom_configs(container_config)`, run apart before the start.
    #[serde(default)]
    pub pre_start: String,
    /// Run inside, before the application; its failure is a warning.
    #[serde(default)]
    pub post_start: PostStart,
}

/// What is opened in a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum App {
    /// JupyterLab.
    Jupyter,
    /// VS Code in the browser (code-server).
    VsCode,
    /// What the image brings along.
    Custom {
        /// Where it listens.
        port: u16,
        /// What is run; empty is the image's own.
        #[serde(default)]
        command: Vec<String>,
        /// It is served below its base path, and not at the root.
        #[serde(default)]
        keeps_base_path: bool,
        /// A path that answers 200 when it is ready; empty is any answer at all.
        #[serde(default)]
        health_path: String,
    },
}

impl Spec {
    /// The image as somebody named it: of a tag with a digest after it, the tag. What runs is its content.
    #[must_use]
    pub fn named_image(&self) -> &str {
        match self.image.split_once('@') {
            Some((named, _)) if named.rsplit('/').next().is_some_and(|last| last.contains(':')) => named,
            _ => &self.image,
        }
    }

    /// The same, where mounts of volumes that are `gone` say nothing but a name.
    #[must_use]
    pub fn without_volumes(&self, gone: impl Fn(VolumeId) -> bool) -> Self {
        let mut spec = self.clone();
        for mount in &mut spec.mounts {
            mount.id = mount.id.filter(|id| !gone(*id));
        }
        spec
    }
}

/// A volume and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The name of a volume of the project; where there is none, the backend's name of one that is there.
    pub volume: String,
    /// That volume of the project, once a life has begun; `None` in what is saved, and for one of the backend's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<VolumeId>,
    /// An absolute path.
    pub path: String,
    /// Cannot be written.
    #[serde(default)]
    pub read_only: bool,
}

/// What is run inside after the environment is ready: the command, then the script.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostStart {
    /// Program and arguments; may be empty.
    pub command: Vec<String>,
    /// Source of a shell script; may be empty.
    pub script: String,
}

/// The path below which a workspace's application is served, whoever serves it.
#[must_use]
pub fn base_path(workspace: &str) -> String {
    format!("/runtimes/{workspace}/")
}

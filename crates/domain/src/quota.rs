//! What a project, the projects of a group together, or a person may hold at once.
//!
//! Refuses to know who is in the project, and when (that is the plan's window).

use crate::{
    device::DeviceModel,
    id::{GroupId, ProjectId, UserId},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whose quota it is. A holder counts for its project's, for that of the group which owns the project, and for that of the
/// person who started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// One project's.
    Project(ProjectId),
    /// A group's, over all projects that it owns.
    Group(GroupId),
    /// A person's, over all projects.
    Person(UserId),
}

impl Account {
    /// The group, if it is one's.
    #[must_use]
    pub const fn group(self) -> Option<GroupId> {
        match self {
            Self::Group(id) => Some(id),
            _ => None,
        }
    }

    /// The person, if it is one's.
    #[must_use]
    pub const fn person(self) -> Option<UserId> {
        match self {
            Self::Person(id) => Some(id),
            _ => None,
        }
    }

    /// As the subject of a sentence.
    #[must_use]
    pub const fn spoken(self) -> &'static str {
        match self {
            Self::Project(_) => "the project",
            Self::Group(_) => "the group that owns the project",
            Self::Person(_) => "the person who starts it",
        }
    }
}

/// Limits of one account; `None`, and a model that is not listed, is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Effective GPU: devices times share, in milli-GPU.
    pub gpu_milli: Option<u64>,
    /// The same by model.
    pub model_milli: BTreeMap<DeviceModel, u64>,
    /// Processor, thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Disk that holders fill beside their volumes, and the volumes' sizes, bytes.
    pub storage_bytes: Option<u64>,
    /// Holders at once.
    pub holders: Option<u64>,
}

/// What counts for an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Effective GPU, milli-GPU.
    pub gpu_milli: u64,
    /// The same by model.
    pub model_milli: BTreeMap<DeviceModel, u64>,
    /// Processor, thousandths of a core.
    pub cpu_milli: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Disk beside volumes, bytes.
    pub storage_bytes: u64,
    /// Holders.
    pub holders: u64,
}

/// One dimension in which a quota would be exceeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excess {
    /// Which, in the words of a sentence: `GPU`, `GPU of model A10`, `CPU`, `memory`, `storage`, `holders`.
    pub what: String,
    /// What may be held.
    pub limit: u64,
    /// What is held already.
    pub used: u64,
    /// What would come to it.
    pub wanted: u64,
}

impl Excess {
    /// `limit`, `used` or `wanted` as people say it: `0.4 GPU`, `512 MiB of memory`, `3 runtimes at once`.
    #[must_use]
    pub fn spoken(&self, value: u64) -> String {
        let text = match self.what.as_str() {
            "memory" | "storage" => return format!("{} MiB of {}", value >> 20, self.what),
            "holders" => return format!("{value} runtimes at once"),
            _ => format!("{}.{:03}", value / 1000, value % 1000),
        };
        format!("{} {}", text.trim_end_matches('0').trim_end_matches('.'), self.what)
    }
}

impl Excess {
    /// Whether somebody who holds `own` has something of what is too much.
    #[must_use]
    pub fn concerns(&self, own: &Usage) -> bool {
        let part = match self.what.as_str() {
            "GPU" => own.gpu_milli,
            "CPU" => own.cpu_milli,
            "memory" => own.memory_bytes,
            "storage" => own.storage_bytes,
            "holders" => own.holders,
            what => {
                own.model_milli.iter().find(|(model, _)| what == model_excess(model)).map_or(0, |(_, milli)| *milli)
            }
        };
        part > 0
    }
}

/// The name of too much of a model.
fn model_excess(model: &DeviceModel) -> String {
    format!("GPU of model {model}")
}

impl Usage {
    /// Adds what `other` holds; beyond the type's range it stays at the most.
    pub fn add(&mut self, other: &Self) {
        self.gpu_milli = self.gpu_milli.saturating_add(other.gpu_milli);
        for (model, milli) in &other.model_milli {
            let held = self.model_milli.entry(model.clone()).or_default();
            *held = held.saturating_add(*milli);
        }
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.storage_bytes = self.storage_bytes.saturating_add(other.storage_bytes);
        self.holders = self.holders.saturating_add(other.holders);
    }

    /// Takes away what `other` held; never below zero.
    pub fn remove(&mut self, other: &Self) {
        self.gpu_milli = self.gpu_milli.saturating_sub(other.gpu_milli);
        for (model, milli) in &other.model_milli {
            if let Some(held) = self.model_milli.get_mut(model) {
                *held = held.saturating_sub(*milli);
            }
        }
        self.cpu_milli = self.cpu_milli.saturating_sub(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
        self.storage_bytes = self.storage_bytes.saturating_sub(other.storage_bytes);
        self.holders = self.holders.saturating_sub(other.holders);
    }
}

impl Quota {
    /// The first dimension in which `used` and `more` together are too much.
    #[must_use]
    pub fn excess(&self, used: &Usage, more: &Usage) -> Option<Excess> {
        self.excesses(used, more).next()
    }

    /// As [`Quota::excess`], in every dimension.
    pub fn excesses(&self, used: &Usage, more: &Usage) -> impl Iterator<Item = Excess> {
        let over = |what: &str, limit: Option<u64>, used: u64, wanted: u64| {
            let limit = limit.filter(|limit| used.saturating_add(wanted) > *limit && wanted > 0)?;
            Some(Excess { what: what.to_owned(), limit, used, wanted })
        };
        let of_model = move |(model, wanted): (&DeviceModel, &u64)| {
            let held = used.model_milli.get(model).copied().unwrap_or_default();
            over(&model_excess(model), self.model_milli.get(model).copied(), held, *wanted)
        };
        let gpus = over("GPU", self.gpu_milli, used.gpu_milli, more.gpu_milli);
        let models = more.model_milli.iter().map(of_model);
        let others = [
            over("CPU", self.cpu_milli, used.cpu_milli, more.cpu_milli),
            over("memory", self.memory_bytes, used.memory_bytes, more.memory_bytes),
            over("storage", self.storage_bytes, used.storage_bytes, more.storage_bytes),
            over("holders", self.holders, used.holders, more.holders),
        ];
        std::iter::once(gpus).chain(models).chain(others).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_exceeded_dimension_is_named() {
        let model = DeviceModel::new("A10");
        let quota = Quota {
            gpu_milli: Some(1000),
            model_milli: [(model.clone(), 500)].into(),
            cpu_milli: Some(4000),
            ..Quota::default()
        };
        let ask = |gpu_milli, cpu_milli| Usage {
            gpu_milli,
            model_milli: [(model.clone(), gpu_milli)].into(),
            cpu_milli,
            holders: 1,
            ..Usage::default()
        };
        let mut used = Usage::default();
        used.add(&ask(400, 1000));
        let spoken = |more: &Usage| quota.excess(&used, more).map(|e| (e.spoken(e.wanted), e.spoken(e.limit)));
        assert_eq!(spoken(&ask(700, 0)), Some(("0.7 GPU".to_owned(), "1 GPU".to_owned())));
        assert_eq!(spoken(&ask(0, 3001)), Some(("3.001 CPU".to_owned(), "4 CPU".to_owned())));
        let what = |more: &Usage| quota.excess(&used, more).map(|e| e.what);
        assert_eq!(what(&ask(100, 3000)), None);
        assert_eq!(what(&ask(101, 0)).as_deref(), Some("GPU of model A10"));
        assert_eq!(what(&ask(700, 0)).as_deref(), Some("GPU"));
        assert_eq!(what(&ask(0, 3001)).as_deref(), Some("CPU"));
        let disk = Quota { storage_bytes: Some(1 << 30), ..Quota::default() };
        let excess = disk.excess(&used, &Usage { storage_bytes: 2 << 30, ..Usage::default() }).unwrap();
        assert_eq!(excess.spoken(excess.limit), "1024 MiB of storage");
        used.remove(&ask(400, 1000));
        assert_eq!(used, Usage { model_milli: [(model.clone(), 0)].into(), ..Usage::default() });
    }
}

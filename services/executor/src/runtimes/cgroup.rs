//! Processor and memory of a runtime as a whole, kept by the kernel: a cgroup (v2) for each, below the executor's own.
//!
//! Only where the executor has a cgroup to itself that it may divide, as a service with `Delegate=yes` has; everywhere
//! else it says why not, once, and runtimes are held by what holds a single process. Refuses to know what runs inside.

use domain::{id::HolderId, runtime::Spec};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where this executor and its attempts go, since a cgroup that is divided holds no process itself.
const OWN: &str = "executor";
/// Below it, one for each runtime.
const RUNTIMES: &str = "runtimes";
/// What they are divided by.
const CONTROLLERS: &str = "+cpu +memory";
/// Processor time is measured out so often, microseconds: the kernel's own choice.
const PERIOD_US: u64 = 100_000;

/// The cgroups of runtimes.
#[derive(Debug, Clone)]
pub struct Cgroups(PathBuf);

impl Cgroups {
    /// Divides this executor's own cgroup and moves the executor below it. To be called before it starts any process.
    ///
    /// # Errors
    /// Why this machine does not allow it, for the log.
    pub fn divide_own() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let own = own(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)?;
        Self::divide(&own, std::process::id()).map_err(|why| format!("{}: {why}", own.display()))
    }

    fn divide(own: &Path, executor: u32) -> Result<Self, String> {
        let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let has = fs::read_to_string(own.join("cgroup.controllers")).map_err(told("cgroup.controllers"))?;
        if !["cpu", "memory"].iter().all(|wanted| has.split_whitespace().any(|controller| controller == *wanted)) {
            return Err(format!("it has not both controllers, cpu and memory, but `{}`", has.trim()));
        }
        let members = fs::read_to_string(own.join("cgroup.procs")).map_err(told("cgroup.procs"))?;
        if members.split_whitespace().any(|pid| pid != executor.to_string()) {
            return Err("other processes are in it; give the executor one of its own".to_owned());
        }
        let runtimes = own.join(RUNTIMES);
        for folder in [&own.join(OWN), &runtimes] {
            fs::create_dir_all(folder).map_err(told("it cannot be divided"))?;
        }
        fs::write(own.join(OWN).join("cgroup.procs"), executor.to_string()).map_err(told("moving the executor"))?;
        for folder in [own, runtimes.as_path()] {
            fs::write(folder.join("cgroup.subtree_control"), CONTROLLERS).map_err(told("cgroup.subtree_control"))?;
        }
        // Of runtimes that ended while no executor was there; one that lives keeps its own.
        for left in fs::read_dir(&runtimes).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(left.path());
        }
        Ok(Self(runtimes))
    }

    /// The cgroup of a life, with the limits of its spec.
    ///
    /// # Errors
    /// When it cannot be made, or the kernel refuses a limit.
    pub(super) fn of(&self, holder: HolderId, spec: &Spec) -> io::Result<PathBuf> {
        let folder = self.folder(holder);
        fs::create_dir_all(&folder)?;
        for (file, limit) in limits(spec) {
            fs::write(folder.join(file), limit)?;
        }
        Ok(folder)
    }

    /// Whether the kernel killed something of it for want of memory.
    pub(super) fn ran_out_of_memory(&self, holder: HolderId) -> bool {
        let events = fs::read_to_string(self.folder(holder).join("memory.events")).unwrap_or_default();
        events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
    }

    /// After its last process.
    pub(super) fn remove(&self, holder: HolderId) {
        match fs::remove_dir(self.folder(holder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%holder, %error, "the cgroup of an ended runtime stays until the executor starts again");
            }
            _ => {}
        }
    }

    fn folder(&self, holder: HolderId) -> PathBuf {
        self.0.join(holder.to_string())
    }
}

/// What is written into which file. Memory that it may not have is not swapped out instead.
fn limits(spec: &Spec) -> Vec<(&'static str, String)> {
    let cpu = spec.cpu_limit_milli.max(spec.ask.cpu_milli);
    let memory = spec.memory_limit_bytes.max(spec.ask.memory_bytes);
    let cpu = (cpu > 0).then(|| ("cpu.max", format!("{} {PERIOD_US}", cpu.saturating_mul(PERIOD_US) / 1_000)));
    let memory = (memory > 0).then(|| ("memory.max", memory.to_string()));
    cpu.into_iter().chain(memory).collect()
}

/// The folder of the cgroup in which this process is, from what the kernel says about it and about what is mounted.
fn own(cgroup: &str, mountinfo: &str) -> Result<PathBuf, String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.ok_or("the kernel has no cgroup v2")?;
    let mounted = mountinfo.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        (kind.split(' ').next() == Some("cgroup2")).then_some((*fields.get(3)?, *fields.get(4)?))
    });
    let (root, at) = mounted.ok_or("cgroup v2 is not mounted")?;
    // A container may see only a part of the tree.
    let below = path.strip_prefix(root.trim_end_matches('/')).ok_or("its cgroup lies outside of what is mounted")?;
    Ok(Path::new(at).join(below.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_own_cgroup_is_found_where_it_is_mounted() {
        let mounts =
            "24 1 0:22 / /proc rw - proc proc rw\n33 24 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let service = own("0::/system.slice/orrery.service\n", mounts).unwrap();
        assert_eq!(service, Path::new("/sys/fs/cgroup/system.slice/orrery.service"));
        let part = "33 24 0:28 /docker/7 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own("1:cpu:/x\n0::/docker/7/a\n", part).unwrap(), Path::new("/sys/fs/cgroup/a"));
        assert_eq!(own("0::/\n", mounts).unwrap(), Path::new("/sys/fs/cgroup"));
        assert!(own("0::/other\n", part).is_err() && own("1:cpu:/\n", mounts).is_err() && own("0::/\n", "").is_err());
    }

    #[test]
    fn a_cgroup_is_divided_only_where_that_is_the_executors_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path();
        let says = |file: &str, text: &str| fs::write(own.join(file), text).unwrap();
        says("cgroup.procs", "7\n");
        assert!(Cgroups::divide(own, 7).unwrap_err().contains("cgroup.controllers"));
        says("cgroup.controllers", "cpuset cpu io pids\n");
        assert!(Cgroups::divide(own, 7).unwrap_err().contains("memory"));
        says("cgroup.controllers", "cpuset cpu io memory pids\n");
        says("cgroup.procs", "7\n8\n");
        assert!(Cgroups::divide(own, 7).unwrap_err().contains("other processes"));
        says("cgroup.procs", "7\n");
        let cgroups = Cgroups::divide(own, 7).unwrap();
        let written = |file: &str| fs::read_to_string(own.join(file)).unwrap();
        assert_eq!(
            (written("executor/cgroup.procs"), written("cgroup.subtree_control")),
            ("7".into(), CONTROLLERS.into())
        );
        let holder = HolderId(uuid::Uuid::from_u128(1));
        let ask = json!({ "gpus": 0, "gpu_milli": 0, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                          "link": "any", "cpu_milli": 1500, "memory_bytes": 1 << 20 });
        let spec: Spec =
            serde_json::from_value(json!({ "app": "jupyter", "ask": ask, "memory_limit_bytes": 2 << 20 })).unwrap();
        let made = cgroups.of(holder, &spec).unwrap();
        let limit = |file: &str| fs::read_to_string(made.join(file)).unwrap();
        assert_eq!((limit("cpu.max"), limit("memory.max")), ("150000 100000".into(), (2 << 20).to_string()));
        assert!(!cgroups.ran_out_of_memory(holder));
        fs::write(made.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert!(cgroups.ran_out_of_memory(holder));
    }
}

//! What processes take of the machine: memory as the kernel shares it out, and processor time.
//!
//! Reads `/proc` and judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::{Add, Sub},
};

/// Clock ticks of `/proc/<pid>/stat` in a second; fixed in Linux's interface.
const TICKS_PER_S: f64 = 100.0;

/// Of processes and all that they started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Proportional set size in MB (10⁶ bytes): pages that several processes map count once, divided among them.
    pub memory_mb: f64,
    /// Of these, what is in no file, likewise. It is what grows; how much of a library's pages is theirs depends on whoever else on
    /// the machine maps them, and comes and goes.
    pub anonymous_mb: f64,
    /// Processor time so far, seconds; that of children which ended and were waited for included.
    pub cpu_s: f64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            memory_mb: self.memory_mb + other.memory_mb,
            anonymous_mb: self.anonymous_mb + other.anonymous_mb,
            cpu_s: self.cpu_s + other.cpu_s,
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            memory_mb: self.memory_mb - other.memory_mb,
            anonymous_mb: self.anonymous_mb - other.anonymous_mb,
            cpu_s: self.cpu_s - other.cpu_s,
        }
    }
}

impl Usage {
    /// What these processes and everything that they started take now. A process that ends meanwhile counts as nothing.
    ///
    /// Processes of other users can only be read by root.
    #[must_use]
    pub fn of(roots: &[u32]) -> Self {
        trees(roots).into_iter().map(of_process).fold(Self::default(), Add::add)
    }

    /// What these processes take themselves, without what they started.
    #[must_use]
    pub fn of_alone(pids: &[u32]) -> Self {
        pids.iter().copied().map(of_process).fold(Self::default(), Add::add)
    }
}

fn of_process(pid: u32) -> Usage {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let megabytes = |key: &str| {
        let value = rollup.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let kib: f64 = value.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default();
        kib * 1024.0 / 1e6
    };
    // Own user and system time, then those of children that were waited for.
    let ticks: f64 = stat(pid).iter().skip(11).take(4).filter_map(|word| word.parse::<f64>().ok()).sum();
    Usage { memory_mb: megabytes("Pss:"), anonymous_mb: megabytes("Pss_Anon:"), cpu_s: ticks / TICKS_PER_S }
}

/// The words of `/proc/<pid>/stat` after the name, which may hold spaces: state, parent, …
fn stat(pid: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    rest.split_whitespace().map(str::to_owned).collect()
}

fn trees(roots: &[u32]) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = stat(pid).get(1).and_then(|word| word.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<u32> = roots.to_vec();
    while let Some(pid) = open.pop() {
        if found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn children_count_with_who_started_them() {
        let script = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo ready; read -r _";
        // What follows keeps the outer shell from becoming the inner one.
        let mut shell = Command::new("sh");
        shell.args(["-c", "sh -c \"$1\"; true", "sh", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut ready = [0_u8; 6];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let (whole, own) = (Usage::of(&[shell.id()]), of_process(shell.id()));
        let _ = shell.kill();
        let _ = shell.wait();
        assert!(own.memory_mb < 10.0, "the shell itself holds nothing, yet takes {} MB", own.memory_mb);
        assert!(whole.memory_mb > 25.0, "its child holds 30 MB, and both take {} MB", whole.memory_mb);
        assert!(whole.anonymous_mb > 25.0 && whole.anonymous_mb <= whole.memory_mb, "{whole:?}");
    }

    #[test]
    fn processor_time_rises_with_work() {
        // Alone: a child of the test beside this one takes its time with it when it leaves us.
        let me = [std::process::id()];
        let before = Usage::of_alone(&me).cpu_s;
        let begun = std::time::Instant::now();
        let mut sum = 0_u64;
        while begun.elapsed().as_millis() < 300 || sum == 0 {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        assert!(Usage::of_alone(&me).cpu_s > before, "{sum}");
    }
}

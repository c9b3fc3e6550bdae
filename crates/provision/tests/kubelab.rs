//! A Kubernetes of one's own from nothing: a claim is allocated and consumed, its pod runs as a process, and the end of
//! the lab is the end of everything.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use provision::{
    command,
    kubelab::{self, Kubelab},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// For one step, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const OBJECTS: &str = r#"
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: two-of-40}
spec:
  devices:
    requests:
    - name: gpu
      exactly:
        deviceClassName: hami-core-gpu.project-hami.io
        count: 2
        capacity: {requests: {cores: "40", memory: 16Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: two-of-40}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  resourceClaims: [{name: gpu, resourceClaimName: two-of-40}]
  containers:
  - name: main
    image: none
    # One child leaves the process group: it has to end with the pod, too.
    command: [sh, -c, 'setsid sleep 4567 & echo limits $CUDA_DEVICE_SM_LIMIT_0 $CUDA_DEVICE_SM_LIMIT_1; exec sleep 4567']
    resources: {claims: [{name: gpu}]}
"#;

struct Lab {
    dir: tempfile::TempDir,
    program: PathBuf,
    running: Kubelab,
}

impl Lab {
    fn kubectl(&self, words: &[&str]) -> provision::Result<String> {
        command::run(Command::new(&self.program).arg("kubectl").args(words).env("KUBECONFIG", &self.running.kubeconfig))
    }

    /// Asks until the answer is this one.
    fn until(&self, expected: &str, words: &[&str]) {
        let begun = Instant::now();
        loop {
            let said = self.kubectl(words).unwrap_or_else(|error| error.to_string());
            if said.trim() == expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "kubectl {words:?}: `{said}` and not `{expected}`");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Processes with the lab's folder in their command line or environment.
    fn processes(&self) -> Vec<String> {
        let folder = self.dir.path().to_str().unwrap();
        let of = |process: &Path| {
            let read =
                |name: &str| String::from_utf8_lossy(&fs::read(process.join(name)).unwrap_or_default()).into_owned();
            let command = read("cmdline");
            (command.contains(folder) || read("environ").contains(folder)).then_some(command)
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| of(&entry.path())).filter(|command| !command.is_empty()).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = kubelab::stop(self.dir.path());
    }
}

#[test]
fn a_claim_is_consumed_by_a_process_and_nothing_is_left() {
    let named = || format!("a cluster is named by {}, and this test is about our own", kubelab::EXISTING);
    if let Some(why) = testkit::kubernetes::without().or_else(|| Kubelab::named().map(|_| named())) {
        testkit::skipped(why);
        return;
    }
    let program = kubelab::build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubelab")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let running =
        Kubelab::start(&program, dir.path(), &["--shared", "1", "--whole", "0", "--partitioned", "0"], &[]).unwrap();
    assert_eq!(running.nodes, ["shared-0", "plain-0"]);
    let lab = Lab { dir, program, running };
    // The default service account of a namespace is made a moment after it.
    lab.until("default", &["get", "serviceaccount", "default", "--output=jsonpath={.metadata.name}"]);

    let objects = lab.dir.path().join("objects.yaml");
    fs::write(&objects, OBJECTS).unwrap();
    lab.kubectl(&["apply", "--filename", objects.to_str().unwrap()]).unwrap();
    lab.until("true", &["get", "pod", "two-of-40", "--output=jsonpath={.status.containerStatuses[0].ready}"]);
    let consumed = "--output=jsonpath={.status.allocation.devices.results[*].consumedCapacity.cores}";
    assert_eq!(lab.kubectl(&["get", "resourceclaim", "two-of-40", consumed]).unwrap(), "40 40");
    let reserved = "--output=jsonpath={.status.reservedFor[0].name}";
    assert_eq!(lab.kubectl(&["get", "resourceclaim", "two-of-40", reserved]).unwrap(), "two-of-40");
    lab.until("limits 40 40", &["logs", "two-of-40"]);
    lab.until("main", &["get", "pods.metrics.k8s.io", "two-of-40", "--output=jsonpath={.containers[0].name}"]);
    let sleeping = || lab.processes().iter().filter(|process| process.contains("4567")).count();
    assert_eq!(sleeping(), 2, "the container and its child that left");

    lab.kubectl(&["delete", "pod", "two-of-40", "--wait"]).unwrap();
    assert_eq!(sleeping(), 0, "a pod that is gone has no process");
    lab.until("", &["get", "resourceclaim", "two-of-40", "--output=jsonpath={.status.allocation}"]);

    // Whoever kills the lab leaves nothing either.
    lab.kubectl(&["apply", "--filename", objects.to_str().unwrap()]).unwrap();
    lab.until("true", &["get", "pod", "two-of-40", "--output=jsonpath={.status.containerStatuses[0].ready}"]);
    assert!(lab.processes().len() >= 6, "{:?}", lab.processes());
    assert!(kubelab::stop(lab.dir.path()).unwrap());
    let begun = Instant::now();
    while !lab.processes().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "left: {:?}", lab.processes());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(Kubelab::attach(lab.dir.path()).unwrap().is_none());
    assert!(!kubelab::stop(lab.dir.path()).unwrap(), "it was stopped already");
}

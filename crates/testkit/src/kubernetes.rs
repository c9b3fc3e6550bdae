//! A real Kubernetes with simulated GPU nodes, which all tests of a machine share: each makes a namespace of its own, and
//! keeps to the devices that it says in its head.

use crate::skipped;
use provision::{Kubelab, TestLab};
use std::{env, path::Path, sync::OnceLock};

/// Set to a reason where no Kubernetes can be had: its tests are skipped, and say so.
pub const WITHOUT: &str = "ORRERY_WITHOUT_KUBERNETES";

/// The lab, built and started if need be; blocking, for minutes where nothing was built yet. `None` where [`WITHOUT`] is set.
///
/// # Panics
/// When it cannot be built or does not start.
#[must_use]
pub fn lab() -> Option<&'static Kubelab> {
    static LAB: OnceLock<Result<TestLab, String>> = OnceLock::new();
    let shared = LAB.get_or_init(|| {
        if let Some(why) = without() {
            return Err(why);
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubelab");
        let lab = TestLab::share(&sources);
        Ok(lab.unwrap_or_else(|error| panic!("no Kubernetes to test on, and {WITHOUT} is not set: {error}")))
    });
    // Once for every test that asks.
    shared.as_ref().inspect_err(|why| skipped(why)).ok().map(|shared| &shared.lab)
}

/// Why there is none to test on, where [`WITHOUT`] is set.
#[must_use]
pub fn without() -> Option<String> {
    let reason = env::var_os(WITHOUT).filter(|reason| !reason.is_empty())?;
    Some(format!("no Kubernetes to test on: {}", reason.display()))
}

//! Who may depend on whom. The table is the architecture: changing it is a decision.

use super::Findings;
use crate::workspace::{Metadata, Package};

/// Of the workspace's own crates, what each may be built from. A crate that is not listed is refused.
const OWN: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("domain", &[]),
    ("provision", &[]),
    ("oidc", &[]),
    ("registry", &[]),
    ("blobs", &["domain"]),
    ("notify", &["domain"]),
    ("runtime", &["domain"]),
    ("secrets", &["domain"]),
    ("placement", &["domain"]),
    ("store", &["domain"]),
    ("lease", &["store"]),
    ("project", &["domain"]),
    ("backend", &[]),
    ("backend-process", &["domain", "provision"]),
    ("backend-kubernetes", &["backend", "domain", "proto"]),
    ("rpc", &["domain", "proto", "runtime"]),
    ("testkit", &["provision"]),
    ("web-server", SERVICE),
    ("scheduler", SERVICE),
    ("executor", SERVICE),
    ("orrery", &["domain", "project", "proto", "provision", "rpc", "runtime"]),
    ("xtask", &["provision"]),
    (
        "load-tests",
        &[
            "backend-kubernetes",
            "blobs",
            "domain",
            "placement",
            "project",
            "proto",
            "provision",
            "rpc",
            "runtime",
            "store",
            "testkit",
        ],
    ),
];

/// Services never depend on each other: they meet in `proto`.
const SERVICE: &[&str] = &[
    "backend",
    "backend-kubernetes",
    "backend-process",
    "blobs",
    "domain",
    "lease",
    "notify",
    "oidc",
    "placement",
    "project",
    "proto",
    "provision",
    "registry",
    "rpc",
    "runtime",
    "secrets",
    "store",
];

const SERVICES: &[&str] = &["web-server", "scheduler", "executor"];

/// Crates from outside that only some of ours may name, even in tests.
const FENCED: &[(&str, &[&str])] = &[
    ("tokio-postgres", &["store", "testkit", "load-tests"]),
    ("deadpool-postgres", &["store"]),
    ("refinery", &["store"]),
    ("redis", &["lease"]),
    ("kube", &["backend-kubernetes", "load-tests"]),
    ("k8s-openapi", &["backend-kubernetes", "load-tests"]),
    ("object_store", &["blobs"]),
    ("rustls", &["backend-kubernetes", "blobs", "notify", "oidc", "registry", "store"]),
    ("tokio-postgres-rustls", &["store"]),
    ("tokio-rustls", &["orrery"]),
    ("openidconnect", &["oidc"]),
    ("tonic", &["proto", "rpc", "web-server", "scheduler", "executor", "orrery", "load-tests"]),
    ("axum", &["runtime", "rpc", "web-server", "scheduler", "executor"]),
    ("lettre", &["notify"]),
    ("nvml-wrapper", &["executor"]),
    ("ignore", &["project", "orrery"]),
];

/// What pure crates must not be built from: no async, no I/O, no wire.
const PURE: &[(&str, &[&str])] = &[
    ("domain", &["tokio", "tokio-util", "tonic", "prost", "futures-util", "tokio-postgres", "axum", "tracing", "rand"]),
    (
        "placement",
        &["tokio", "tokio-util", "tonic", "prost", "futures-util", "tokio-postgres", "axum", "tracing", "rand"],
    ),
    ("project", &["tokio", "tokio-util", "tonic", "prost", "futures-util", "axum"]),
    ("provision", &["tokio", "tokio-util", "tonic", "futures-util"]),
];

/// Compares what the manifests say with the tables above.
pub(super) fn check(metadata: &Metadata) -> Findings {
    let own: Vec<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut findings = Findings::default();
    for package in &metadata.packages {
        findings.errors.extend(own_errors(package, &own));
        findings.errors.extend(outside_errors(package));
    }
    findings
}

fn own_errors(package: &Package, own: &[&str]) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, allowed)) = OWN.iter().find(|(n, _)| *n == name) else {
        return vec![format!("{name} has no row in xtask's table of who may depend on whom; add one")];
    };
    let used = package.dependencies.iter().filter(|d| own.contains(&d.name.as_str()));
    used.filter(|d| match d.kind.as_deref() {
        // Tests may use more, but a service's tests still meet the other services over the wire.
        Some("dev") => SERVICES.contains(&name) && SERVICES.contains(&d.name.as_str()),
        _ => !allowed.contains(&d.name.as_str()),
    })
    .map(|d| format!("{name} must not depend on {}", d.name))
    .collect()
}

fn outside_errors(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let mut errors = Vec::new();
    for dependency in &package.dependencies {
        let fence = FENCED.iter().find(|(n, _)| *n == dependency.name);
        if dependency.kind.as_deref() != Some("dev") && fence.is_some_and(|(_, inside)| !inside.contains(&name)) {
            errors.push(format!("{name} must not depend on {}: only {} may", dependency.name, inside(fence)));
        }
        let pure = PURE.iter().find(|(n, _)| *n == name);
        if dependency.kind.is_none() && pure.is_some_and(|(_, refused)| refused.contains(&dependency.name.as_str())) {
            errors.push(format!("{name} must not know {}", dependency.name));
        }
    }
    errors
}

fn inside(fence: Option<&(&str, &[&str])>) -> String {
    fence.map(|(_, inside)| inside.join(", ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn errors(name: &str, dependencies: &[(&str, Option<&str>)]) -> Vec<String> {
        let dependencies =
            dependencies.iter().map(|(n, k)| Dependency { name: (*n).into(), kind: k.map(Into::into) }).collect();
        let packages = ["domain", "scheduler", "executor", "store"]
            .map(|n| Package { name: n.into(), dependencies: Vec::new() })
            .into_iter()
            .filter(|p| p.name != name)
            .chain([Package { name: name.into(), dependencies }])
            .collect();
        check(&Metadata { packages, target_directory: "t".into() }).errors
    }

    #[test]
    fn the_direction_is_checked() {
        assert_eq!(errors("domain", &[("tokio", None)]), ["domain must not know tokio"]);
        assert_eq!(errors("domain", &[("tokio", Some("dev"))]), Vec::<String>::new());
        assert_eq!(errors("domain", &[("store", None)]), ["domain must not depend on store"]);
        assert_eq!(errors("scheduler", &[("executor", Some("dev"))]), ["scheduler must not depend on executor"]);
        assert_eq!(errors("executor", &[("tokio-postgres", None)]).len(), 1);
        assert_eq!(errors("store", &[("tokio-postgres", None), ("domain", None)]), Vec::<String>::new());
        assert_eq!(errors("stranger", &[]).len(), 1);
    }
}

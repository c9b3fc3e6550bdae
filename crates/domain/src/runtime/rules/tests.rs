//! Each rule with what it lets pass and what it does not.

use super::*;
use crate::device::{Ask, BYTES_MAX, CPU_MILLI_MAX, Link};
use crate::quota::Quota;
use crate::runtime::{App, Mount, PostStart};
use crate::window::Window;

fn spec() -> Spec {
    Spec {
        app: App::Jupyter,
        image: String::new(),
        ask: Ask {
            gpus: 1,
            gpu_milli: 400,
            gpu_memory_bytes: None,
            models: vec![DeviceModel::new("A10")],
            models_ordered: false,
            link: Link::Any,
            cpu_milli: 1000,
            memory_bytes: 1 << 30,
        },
        cpu_limit_milli: 0,
        memory_limit_bytes: 0,
        storage_bytes: 0,
        env: [].into(),
        mounts: vec![],
        root: false,
        priority: 0,
        idle_timeout_s: 0,
        gpu_idle_timeout_s: 0,
        lifetime_s: 0,
        grace_s: 0,
        requeue: false,
        pre_start: String::new(),
        post_start: PostStart::default(),
    }
}

fn plan(name: &str) -> Plan {
    Plan {
        id: PlanId(uuid::Uuid::from_u128(name.len() as u128)),
        name: name.into(),
        models: vec![],
        gpus_max: None,
        gpu_milli_max: None,
        cpu_milli_max: None,
        memory_max: None,
        lifetime_max_s: None,
        windows: vec![],
    }
}

fn default_queue() -> Terms {
    Terms { queue: "default".into(), is_default_queue: true, ..Terms::default() }
}

fn code(change: impl FnOnce(&mut Spec, &mut Terms)) -> &'static str {
    let (mut spec, mut terms) = (spec(), default_queue());
    change(&mut spec, &mut terms);
    check("lab", &spec, &terms).map_or_else(|denial| denial.code.as_str(), |()| "ok")
}

fn with_plan(change: impl FnOnce(&mut Spec, &mut Plan)) -> &'static str {
    let (mut spec, mut plan) = (spec(), plan("research"));
    change(&mut spec, &mut plan);
    let terms = Terms { queue: "gpu".into(), plans: vec![plan], ..Terms::default() };
    check("lab", &spec, &terms).map_or_else(|denial| denial.code.as_str(), |()| "ok")
}

#[test]
fn a_spec_is_checked_in_itself() {
    assert_eq!(code(|_, _| {}), "ok");
    assert_eq!(code(|s, _| s.ask.gpus = 33), "GPU_COUNT_LIMIT");
    assert_eq!(code(|s, _| s.ask.gpu_milli = 0), "SM_INVALID");
    assert_eq!(code(|s, _| s.ask.gpu_milli = 1001), "SM_INVALID");
    assert_eq!(code(|s, _| s.ask.gpus = 0), "MODEL_NOT_ALLOWED");
    assert_eq!(code(|s, _| s.ask.gpu_memory_bytes = Some(0)), "MEM_INVALID");
    assert_eq!(code(|s, _| s.ask.cpu_milli = 0), "RESOURCE_LIMIT");
    assert_eq!(code(|s, _| s.memory_limit_bytes = 1), "RESOURCE_LIMIT");
    assert_eq!(code(|s, _| (s.ask.cpu_milli, s.ask.memory_bytes) = (CPU_MILLI_MAX, BYTES_MAX)), "ok");
    assert_eq!(code(|s, _| s.ask.cpu_milli = CPU_MILLI_MAX + 1), "RESOURCE_LIMIT");
    assert_eq!(code(|s, _| s.ask.memory_bytes = BYTES_MAX + 1), "RESOURCE_LIMIT");
    assert_eq!(code(|s, _| s.cpu_limit_milli = u64::MAX), "RESOURCE_LIMIT");
    assert_eq!(code(|s, _| s.memory_limit_bytes = u64::MAX), "RESOURCE_LIMIT");
    assert_eq!(code(|s, _| s.storage_bytes = u64::MAX), "RESOURCE_LIMIT");
    assert_eq!(code(|s, _| s.ask.gpu_memory_bytes = Some(u64::MAX)), "MEM_INVALID");
    assert_eq!(code(|s, _| s.image = "a b".into()), "IMAGE_INVALID");
    assert_eq!(code(|s, _| s.idle_timeout_s = 59), "TIMEOUT_LIMIT");
    assert_eq!(code(|s, _| s.priority = 1), "PRIORITY_INVALID");
    assert_eq!(code(|s, _| s.pre_start = "x".repeat(SCRIPT_BYTES_MAX + 1)), "SCRIPT_TOO_LONG");
    let custom = |port, health_path: &str| App::Custom {
        port,
        command: vec![],
        keeps_base_path: false,
        health_path: health_path.into(),
    };
    assert_eq!(code(|s, _| s.app = custom(8080, "/ready")), "ok");
    assert_eq!(code(|s, _| s.app = custom(80, "")), "APP_INVALID");
    assert_eq!(code(|s, _| s.app = custom(8080, "//elsewhere")), "APP_INVALID");
    for (name, expect) in [
        ("A_1", "ok"),
        ("1A", "ENV_INVALID"),
        ("NVIDIA_VISIBLE_DEVICES", "ENV_INVALID"),
        ("", "ENV_INVALID"),
        ("GPU_CORE_UTILIZATION_POLICY", "ENV_INVALID"),
    ] {
        assert_eq!(code(|s, _| s.env = [(name.to_owned(), "x".to_owned())].into()), expect, "{name}");
    }
    let named = |name: &str| check(name, &spec(), &default_queue()).is_ok();
    assert!(named(&"x".repeat(40)) && !named(&"x".repeat(41)) && !named("a_b") && !named("-a"));
}

#[test]
fn volumes_lie_side_by_side_and_outside_of_the_system() {
    let mounts = |list: &[(&str, &str)]| {
        let list: Vec<_> = list
            .iter()
            .map(|(v, p)| Mount { volume: (*v).into(), id: None, path: (*p).into(), read_only: false })
            .collect();
        code(|s, _| s.mounts = list)
    };
    assert_eq!(mounts(&[("data", "/data"), ("more", "/data2"), ("a.b", "/x/y")]), "ok");
    for path in ["data", "/", "", "/proc", "/sys/fs", "/dev/shm", "/a//b", "/a/../b", "/a/", "/./a", "/a\nb", "/a:b"] {
        assert_eq!(mounts(&[("data", path)]), "PVC_PATH_INVALID", "{path}");
    }
    assert_eq!(mounts(&[("data", "/devices")]), "ok");
    assert_eq!(mounts(&[("../data", "/data")]), "PVC_NAME_INVALID");
    assert_eq!(mounts(&[("a", "/data"), ("b", "/data/in")]), "PVC_PATH_NESTED");
    assert_eq!(mounts(&[("a", "/data/in"), ("b", "/data")]), "PVC_PATH_NESTED");
    assert_eq!(mounts(&vec![("a", "/data"); 17]), "PVC_TOO_MANY");
}

#[test]
fn an_image_is_named_plainly() {
    let image = |image: &str| code(|s, _| s.image = image.to_owned());
    let digest = "5e".repeat(32);
    for good in ["lab/x:1", "registry.example:5000/lab/x", &format!("lab/x:1@sha256:{digest}")] {
        assert_eq!(image(good), "ok", "{good}");
    }
    for bad in [
        "lab/../evil:1",
        "lab/./x",
        "lab//x",
        "lab/",
        "x@sha256:abc",
        "x@sha512:0",
        "x@",
        &format!("x@sha256:{digest}@y"),
    ] {
        assert_eq!(image(bad), "IMAGE_INVALID", "{bad}");
    }
}

#[test]
fn images_are_allowed_by_reference_beginning_or_digest() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let list = ["lab/jupyter:3".to_owned(), "team/*".to_owned(), format!("pinned/app@{digest}")];
    let allowed = |image: &str| {
        code(|s, t| {
            s.image = image.to_owned();
            t.policy.images = list.to_vec();
        }) == "ok"
    };
    for good in ["", "lab/jupyter:3", "team/x:1", &format!("pinned/app@{digest}"), &format!("pinned/app:2@{digest}")] {
        assert!(allowed(good), "{good}");
    }
    for bad in [
        "lab/jupyter:4",
        "lab/jupyter",
        "teams/x",
        "pinned/app:2",
        &format!("other/app@{digest}"),
        &format!("lab/jupyter:3@{digest}"),
    ] {
        assert!(!allowed(bad), "{bad}");
    }
}

#[test]
fn root_needs_the_project_its_group_and_hard_shares() {
    let root = |project: bool, group: Option<bool>, milli: u32, enforcement: Enforcement| {
        code(|s, t| {
            (s.root, s.ask.gpu_milli) = (true, milli);
            (t.policy.allow_root, t.policy.group_allows_root) = (project, group);
            let sharing = Sharing::Shared { step_milli: 10, alone: false };
            t.offers = vec![Offer { model: DeviceModel::new("A10"), sharing, memory_bytes: 24 << 30, enforcement }];
        })
    };
    assert_eq!(root(true, None, 400, Enforcement::Hard), "ok");
    assert_eq!(root(true, Some(true), 1000, Enforcement::Soft), "ok");
    assert_eq!(root(false, Some(true), 400, Enforcement::Hard), "ROOT_NOT_ALLOWED");
    assert_eq!(root(true, Some(false), 400, Enforcement::Hard), "ROOT_NOT_ALLOWED");
    assert_eq!(root(true, None, 400, Enforcement::Soft), "ROOT_NOT_ALLOWED");
}

#[test]
fn what_no_device_offers_is_refused_and_what_is_not_known_is_not() {
    let offer = |sharing| Offer {
        model: DeviceModel::new("A10"),
        sharing,
        memory_bytes: 24 << 30,
        enforcement: Enforcement::Hard,
    };
    assert_eq!(code(|_, t| t.offers = vec![offer(Sharing::Exclusive)]), "SM_UNSUPPORTED");
    assert_eq!(code(|s, t| (s.ask.gpu_milli, t.offers) = (1000, vec![offer(Sharing::Exclusive)])), "ok");
    let shared = || vec![offer(Sharing::Exclusive), offer(Sharing::Shared { step_milli: 10, alone: false })];
    assert_eq!(code(|s, t| (s.ask.gpu_memory_bytes, t.offers) = (Some(25 << 30), shared())), "MEM_INVALID");
    assert_eq!(code(|s, t| (s.ask.gpu_memory_bytes, t.offers) = (Some(24 << 30), shared())), "ok");
    assert_eq!(code(|s, t| (s.ask.models, t.offers) = (vec![DeviceModel::new("T4")], shared())), "ok");
    // Of what MPS shares nobody has parts of several.
    let mps = || vec![offer(Sharing::Exclusive), offer(Sharing::Shared { step_milli: 10, alone: true })];
    let of = |gpus, gpu_milli, offers: Vec<Offer>| {
        code(|s, t| (s.ask.gpus, s.ask.gpu_milli, t.offers) = (gpus, gpu_milli, offers))
    };
    assert_eq!((of(1, 400, mps()), of(2, 1000, mps()), of(2, 400, shared())), ("ok", "ok", "ok"));
    assert_eq!(of(2, 400, mps()), "SM_UNSUPPORTED");
    assert_eq!(of(2, 400, [mps(), shared()].concat()), "ok");
}

#[test]
fn the_quota_is_held_against_what_could_ever_be_held() {
    let quota = |gpu_milli, model_milli: &[(&str, u64)]| {
        let model_milli = model_milli.iter().map(|(model, milli)| (DeviceModel::new(model), *milli)).collect();
        code(|_, t| (t.policy.quota.gpu_milli, t.policy.quota.model_milli) = (gpu_milli, model_milli))
    };
    assert_eq!(quota(Some(400), &[("A10", 400)]), "ok");
    assert_eq!(quota(Some(399), &[]), "QUOTA_TOO_SMALL");
    assert_eq!(quota(None, &[("A10", 399)]), "QUOTA_TOO_SMALL");
    assert_eq!(code(|_, t| t.policy.group_quota.gpu_milli = Some(399)), "QUOTA_TOO_SMALL");
    assert_eq!(code(|_, t| t.policy.group_quota.gpu_milli = Some(400)), "ok");
    assert_eq!(code(|_, t| t.policy.idle_timeout_max_s = Some(3600)), "TIMEOUT_LIMIT");
    assert_eq!(code(|s, t| (s.idle_timeout_s, t.policy.idle_timeout_max_s) = (3600, Some(3600))), "ok");
}

#[test]
fn the_queue_s_limit_is_held_against_what_is_asked_for() {
    let limit = |limit| code(|_, t| t.queue_limit_milli = limit);
    assert_eq!((limit(None), limit(Some(400)), limit(Some(399))), ("ok", "ok", "QUEUE_TOO_SMALL"));
    let no_gpu = code(|s, t| (s.ask.gpus, s.ask.models, t.queue_limit_milli) = (0, vec![], Some(0)));
    assert_eq!(no_gpu, "ok", "only GPUs count for it");
    let terms = Terms { queue: "gpu".into(), queue_limit_milli: Some(300), ..Terms::default() };
    assert_eq!(check("lab", &spec(), &terms).unwrap_err().code, Code::QueueNotBound, "it is nobody's else to know");
    let denial = check("lab", &spec(), &Terms { plans: vec![plan("research")], ..terms }).unwrap_err();
    let told =
        "0.4 GPU is asked for, and queue `gpu` may never hold more than 0.3 GPU; ask for less, use another queue";
    assert!(denial.to_string().starts_with(told), "{denial}");
}

#[test]
fn what_starts_together_is_held_against_limits_together() {
    let mut wanted = Usage::default();
    (0..3).for_each(|_| wanted.add(&usage(&spec())));
    assert_eq!(within_limit("gpu", Some(1200), &wanted), Ok(()));
    let told = |denial: Denial| (denial.code.as_str(), denial.to_string());
    let (code, sentence) = told(within_limit("gpu", Some(1199), &wanted).unwrap_err());
    assert_eq!(code, "QUEUE_TOO_SMALL");
    assert_eq!(
        sentence,
        "1.2 GPU is asked for by 3 that start together, and queue `gpu` may never hold more than 1.199 GPU; start fewer \
         together, ask for less, use another queue, or ask an administrator for a higher limit"
    );
    let quota = |holders| Quota { gpu_milli: Some(1200), holders: Some(holders), ..Quota::default() };
    assert_eq!(fits(&quota(3), "the project", &wanted), Ok(()));
    let (code, sentence) = told(fits(&quota(2), "the project", &wanted).unwrap_err());
    assert_eq!(code, "QUOTA_TOO_SMALL");
    assert!(
        sentence.contains("the project may never hold more than 2 runtimes at once; start fewer together"),
        "{sentence}"
    );
}

#[test]
fn a_queue_needs_a_plan_that_allows_it() {
    assert_eq!(with_plan(|_, _| {}), "ok");
    assert_eq!(with_plan(|s, p| (s.ask.gpus, p.gpus_max) = (3, Some(2))), "GPU_COUNT_LIMIT");
    assert_eq!(with_plan(|_, p| p.gpu_milli_max = Some(399)), "GPU_COUNT_LIMIT");
    assert_eq!(with_plan(|_, p| p.models = vec!["T*".into()]), "MODEL_NOT_ALLOWED");
    assert_eq!(with_plan(|_, p| p.models = vec!["A1*".into()]), "ok");
    assert_eq!(with_plan(|s, p| (s.cpu_limit_milli, p.cpu_milli_max) = (2001, Some(2000))), "RESOURCE_LIMIT");
    assert_eq!(with_plan(|_, p| p.lifetime_max_s = Some(3600)), "LIFETIME_LIMIT");
    let small = Plan { gpu_milli_max: Some(300), ..plan("small") };
    let denial = small.check(&spec()).unwrap_err();
    assert_eq!(denial.sentence, "plan `small` lets one runtime have 0.3 GPU, and GPUs times share are 0.4 GPU");
    let none = Terms { queue: "gpu".into(), ..Terms::default() };
    assert_eq!(check("lab", &spec(), &none).unwrap_err().code, Code::QueueNotBound);
    // One that allows it is enough.
    let strict = Plan { gpus_max: Some(0), ..plan("strict") };
    let terms = Terms { plans: vec![strict, plan("research")], ..none };
    assert!(check("lab", &spec(), &terms).is_ok());
}

#[test]
fn the_plan_that_is_open_for_longest_is_used() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let once = |from: &str, to: &str| vec![Window::once("UTC", at(from), at(to)).unwrap()];
    let short = Plan { windows: once("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), ..plan("a") };
    let long = Plan { windows: once("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"), ..plan("bb") };
    let strict = Plan { gpus_max: Some(0), ..plan("ccc") };
    let terms = Terms { queue: "gpu".into(), plans: vec![short.clone(), long.clone(), strict], ..Terms::default() };
    let admitted = |now: &str| admit("lab", &spec(), &terms, at(now)).unwrap();
    assert_eq!(admitted("2026-01-01T12:00:00Z").plan, Some(long.id));
    let before = admitted("2025-12-31T23:00:00Z");
    let denial = closed(&terms, &before.access).unwrap();
    assert_eq!(denial.code.as_str(), "WINDOW_CLOSED");
    assert!(denial.sentence.contains("Thursday 2026-01-01 00:00 (UTC)"), "{}", denial.sentence);
    assert!(closed(&terms, &Access::Always).is_none());
    let free = admit("lab", &spec(), &default_queue(), at("2025-12-31T23:00:00Z")).unwrap();
    assert_eq!(free, Admission { plan: None, access: Access::Always });
}

#[test]
fn what_waits_may_be_forbidden_meanwhile() {
    let digest = "@sha256:aa";
    let judged = |policy: &Policy, image: &str, root: bool| {
        let spec = Spec { image: image.to_owned(), root, lifetime_s: 0, ..spec() };
        policy.permits(&spec).map_or_else(|denial| denial.code.as_str(), |()| "ok")
    };
    let listed = |images: &[&str]| Policy {
        images: images.iter().map(|image| (*image).to_owned()).collect(),
        // What else it sets is a matter of others.
        lifetime_max_s: Some(60),
        ..Policy::default()
    };
    let content = format!("lab:1{digest}");
    for (policy, image, root, expected) in [
        (listed(&[]), "x", false, "ok"),
        (listed(&[]), "x", true, "ROOT_NOT_ALLOWED"),
        (Policy { allow_root: true, ..listed(&[]) }, "x", true, "ok"),
        (Policy { allow_root: true, group_allows_root: Some(false), ..listed(&[]) }, "x", true, "ROOT_NOT_ALLOWED"),
        (listed(&["lab:1"]), "lab:1", false, "ok"),
        (listed(&["lab:1"]), &content, false, "ok"),
        (listed(&["lab@sha256:aa"]), &content, false, "ok"),
        (listed(&["lab@sha256:bb"]), &content, false, "IMAGE_NOT_ALLOWED"),
        (listed(&["lab:2"]), &content, false, "IMAGE_NOT_ALLOWED"),
        // A digest alone has no other name.
        (listed(&["lab"]), "lab@sha256:aa", false, "IMAGE_NOT_ALLOWED"),
        (listed(&["lab:2"]), "", false, "ok"),
    ] {
        assert_eq!(judged(&policy, image, root), expected, "{image} by {:?}", policy.images);
    }
}

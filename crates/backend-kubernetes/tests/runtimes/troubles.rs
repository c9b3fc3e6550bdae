//! What goes wrong on simulated nodes, and what is never made.

use crate::lab::{Lab, PATIENCE, chip, life, until};
use backend_kubernetes::{
    Access, Classes, Cluster, Error, names,
    render::{Place, app::Images},
};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    resource::v1::ResourceClaim,
};
use kube::{
    Api,
    api::{DeleteParams, EvictParams},
};
use proto::internal::v1::RuntimePhase;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

#[tokio::test(flavor = "multi_thread")]
async fn troubles_have_codes() {
    let Some(lab) = Lab::new("trouble").await else { return };
    lab.backend.recover().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(lab.client.clone());
    let device = chip("shared-1", 0);
    let mut number = 0;
    let mut next = || {
        number += 1;
        life(&format!("trouble-{number}"), "shared-1", &[(&device, 100)])
    };
    for (fault, phase, code) in [
        ("image-pull", RuntimePhase::Pulling, "IMAGE_PULL_FAILED"),
        ("prepare", RuntimePhase::Pulling, "DEVICE_PREPARE_FAILED"),
        ("oom", RuntimePhase::Failed, "OUT_OF_MEMORY"),
        ("exit=3", RuntimePhase::Failed, "APP_FAILED"),
        ("exit=0", RuntimePhase::Failed, "EXITED"),
        ("unready", RuntimePhase::Starting, ""),
        ("stall", RuntimePhase::ClaimAllocated, ""),
    ] {
        lab.annotate(namespaces.clone(), &lab.place.namespace, "kubelab/fault", Some(fault)).await;
        let life = next();
        lab.run(&life, 1);
        lab.until(life.holder, phase, code).await;
        if fault == "stall" {
            lab.annotate(namespaces.clone(), &lab.place.namespace, "kubelab/fault", None).await;
            lab.until(life.holder, RuntimePhase::Ready, "").await;
        }
        lab.end(&life, 2).await;
    }
    lab.annotate(namespaces, &lab.place.namespace, "kubelab/fault", None).await;

    // A device that is not there, and a volume of nobody's.
    let mut strange = next();
    strange.grants[0].device = chip("shared-1", 99);
    lab.run(&strange, 1);
    lab.until(strange.holder, RuntimePhase::Misplaced, "DEVICE_MISSING").await;
    lab.end(&strange, 2).await;
    let mut greedy = next();
    greedy.spec.mounts = serde_json::from_value(json!([{ "volume": "others", "path": "/data" }])).unwrap();
    lab.run(&greedy, 1);
    lab.until(greedy.holder, RuntimePhase::Failed, "VOLUME_FORBIDDEN").await;
    lab.end(&greedy, 2).await;

    // Root where only software keeps a share: no object of it is made but the record.
    let mut root = next();
    root.spec.root = true;
    lab.run(&root, 1);
    let told = lab.until(root.holder, RuntimePhase::Failed, "ROOT_NOT_ALLOWED").await;
    assert!(told.message.contains(&device), "{told:?}");
    let name = names::object(&root.workspace, root.number);
    assert!(lab.api::<ResourceClaim>().get_opt(&name).await.unwrap().is_none());
    assert!(lab.api::<Pod>().get_opt(&name).await.unwrap().is_none());
    lab.end(&root, 2).await;

    // A node that is emptied by an administrator.
    let evicted = next();
    lab.run(&evicted, 1);
    lab.until(evicted.holder, RuntimePhase::Ready, "").await;
    let name = names::object(&evicted.workspace, evicted.number);
    let pods = lab.api::<Pod>();
    lab.annotate(pods.clone(), &name, "kubelab/fault", Some("linger")).await;
    pods.evict(&name, &EvictParams::default()).await.unwrap();
    lab.until(evicted.holder, RuntimePhase::Failed, "EVICTED").await;
    // That it is gone altogether by now says less.
    lab.annotate(pods.clone(), &name, "kubelab/fault", None).await;
    until("the pod's end", PATIENCE, || async { pods.get_opt(&name).await.unwrap().is_none() }).await;
    lab.run(&evicted, 2);
    until("the later fence", PATIENCE, || async { lab.report(evicted.holder).fence == 2 }).await;
    assert_eq!(lab.report(evicted.holder).code, "EVICTED");
    lab.end(&evicted, 3).await;

    // A pod that somebody took away, at once or with the time to end; it lingers, so that its end is seen.
    for grace in [0, 5] {
        let lost = next();
        lab.run(&lost, 1);
        lab.until(lost.holder, RuntimePhase::Ready, "").await;
        let name = names::object(&lost.workspace, lost.number);
        if grace > 0 {
            lab.annotate(pods.clone(), &name, "kubelab/fault", Some("linger")).await;
        }
        pods.delete(&name, &DeleteParams::default().grace_period(grace)).await.unwrap();
        let told = lab.until(lost.holder, RuntimePhase::Failed, "POD_LOST").await;
        assert_eq!(told.message, "the pod was taken away by somebody else");
        if grace > 0 {
            lab.annotate(pods.clone(), &name, "kubelab/fault", None).await;
        }
        lab.end(&lost, 2).await;
    }
}

/// Answers one connection after the other as an API server whose gate is off: what it does not know it drops.
fn old_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream);
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).unwrap();
    let is_version = line.contains("/version");
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(told) = line.to_lowercase().strip_prefix("content-length:") {
            length = told.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let told = if is_version {
        json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.1", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "" })
    } else {
        let mut claim: Value = serde_json::from_slice(&body).unwrap();
        let request = &mut claim["spec"]["devices"]["requests"][0]["exactly"];
        assert!(request.as_object_mut().unwrap().remove("capacity").is_some(), "the probe asks for some");
        claim
    };
    let told = told.to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{told}",
        told.len()
    )
    .unwrap();
}

#[tokio::test]
async fn a_server_that_drops_capacity_silently_is_refused() {
    let server = format!("http://127.0.0.1:{}", old_server());
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "old",
        "clusters": [{ "name": "old", "cluster": { "server": server } }],
        "contexts": [{ "name": "old", "context": { "cluster": "old", "user": "nobody" } }],
        "users": [{ "name": "nobody", "user": {} }],
    });
    let file = std::env::temp_dir().join(format!("orrery-old-{}.json", std::process::id()));
    std::fs::write(&file, config.to_string()).unwrap();
    let place = Place {
        pool: "default".to_owned(),
        namespace: "old".to_owned(),
        images: Images { jupyter: String::new(), vs_code: String::new(), pre_start: String::new() },
        classes: Classes::known(),
        visitors: Vec::new(),
    };
    let connected = Cluster::connect(&Access { kubeconfig: Some(file.clone()) }, place).await;
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(connected, Err(Error::DropsCapacity { version }) if version == "v1.34.1"));
}

//! Runtimes as pods of a real Kubernetes with simulated nodes, without devices: what happens before a pod is there, and how
//! its application tells that it is used.

use crate::{
    idle::{activity, person, settles},
    runtimes::{Machine, ask, reaches, run, spec, stop},
    scheduler::SOON,
};
use backend_kubernetes::{
    Access, Classes,
    render::{Place, app::Images},
};
use domain::runtime::{App, Spec};
use executor::{
    kubernetes::{KubernetesRuntimes, Scripts},
    pool::{Life, Order, RuntimeBackend, order::Goal},
    pre_start::Sandbox,
};
use jiff::Timestamp;
use proto::internal::v1::{RuntimePhase, activity_report::State};
use std::{env, path::PathBuf, sync::Arc, time::Duration};
use uuid::Uuid;

/// Answers with its environment.
const SERVER: &str = "
import http.server, os, json
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.HTTPServer((os.environ['POD_IP'], 8000), H).serve_forever()";

/// An executor of a namespace of its own; `None` where tests on Kubernetes are skipped.
async fn executor(machine: &Machine, namespace: &str) -> Option<KubernetesRuntimes> {
    let lab = tokio::task::spawn_blocking(testkit::kubernetes::lab).await.unwrap()?;
    let place = Place {
        pool: namespace.to_owned(),
        namespace: namespace.to_owned(),
        images: Images { jupyter: "jupyter".into(), vs_code: "code".into() },
        classes: Classes::known(),
    };
    let sandbox = Sandbox {
        launcher: PathBuf::from(env!("CARGO_BIN_EXE_orrery-executor")),
        python: provision::Python::find_or_install().unwrap().path,
        executor: machine.mark.clone(),
        isolated: true,
    };
    let scripts = Scripts { sandbox, folder: machine.folder.path().join("pre-start") };
    Some(KubernetesRuntimes::new(Access { kubeconfig: Some(lab.kubeconfig.clone()) }, place, scripts))
}

fn namespace(what: &str) -> String {
    format!("{what}-{}", &Uuid::new_v4().to_string()[..8])
}

/// The order on a node of the lab.
fn placed(spec: Spec) -> Order {
    let order = run(spec);
    let life = Life { node: "shared-0".to_owned(), ..Life::clone(order.life().unwrap()) };
    Order { goal: Goal::Run(Arc::new(life)), ..order }
}

fn server(pre_start: &str) -> Order {
    let command = ["python3", "-c", SERVER].map(str::to_owned).into();
    let app = App::Custom { port: 8_000, command, keeps_base_path: false, health_path: String::new() };
    let mut spec = spec(app);
    spec.env.insert("GIVEN".to_owned(), "moin".to_owned());
    spec.image = "none".to_owned();
    spec.pre_start = pre_start.to_owned();
    placed(spec)
}

async fn end(backend: &KubernetesRuntimes, order: &Order) {
    backend.apply(stop(order, Duration::from_secs(2)));
    reaches(backend, order, RuntimePhase::Gone, SOON).await;
    backend.apply(Order { fence: order.fence + 2, goal: Goal::Forget, ..order.clone() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_before_its_pod_is_made_and_only_once() {
    let (machine, namespace) = (Machine::new(), namespace("scripts"));
    let Some(backend) = executor(&machine, &namespace).await else { return };
    backend.recover().await.unwrap();
    // What it sets is another thing each time.
    let order = server(
        "import os\ndef get_custom_configs(c):\n    assert c['name'] == 'lab' and c['env'][0]['value'] == 'moin'\n    \
         c['env'].append({'name': 'ADDED', 'value': os.urandom(8).hex()})\n    return c",
    );
    backend.apply(order.clone());
    let ready = reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    let of = |answer: String| -> serde_json::Value {
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let seen = of(ask(&ready.endpoint, "/"));
    let added = seen["ADDED"].as_str().unwrap().to_owned();
    assert_eq!((added.len(), seen["GIVEN"].as_str()), (16, Some("moin")));

    // The next life of the executor finds it, and is told the same as before.
    drop(backend);
    let backend = executor(&machine, &namespace).await.unwrap();
    let found = backend.recover().await.unwrap();
    assert_eq!(found[0].life().unwrap().spec.env["ADDED"], added, "what the script set is kept");
    backend.apply(Order { fence: 2, ..order.clone() });
    let again = async || backend.board().runtime(order.holder).filter(|report| report.fence == 2);
    let report = testkit::wait_for("a report for the new order", SOON, again).await;
    assert_eq!(report.phase(), RuntimePhase::Ready, "nothing begins anew: {report:?}");
    assert!(!machine.folder.path().join("pre-start").join(order.holder.to_string()).exists());
    end(&backend, &Order { fence: 3, ..order }).await;

    let refused = server("def get_custom_configs(c):\n    return {'securityContext': {}}");
    backend.apply(refused.clone());
    let report = reaches(&backend, &refused, RuntimePhase::Failed, SOON).await;
    assert_eq!(report.code, "PRE_START_REFUSED", "{report:?}");
    // Told again, it is as refused as before.
    backend.apply(Order { fence: 2, ..refused.clone() });
    let report = backend.board().runtime(refused.holder).unwrap();
    assert_eq!((report.fence, report.phase()), (2, RuntimePhase::Failed));
    end(&backend, &Order { fence: 3, ..refused }).await;
    assert_eq!(machine.left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_of_activity_in_a_pod_which_is_never_taken_for_idle() {
    let machine = Machine::new();
    let Some(backend) = executor(&machine, &namespace("idle")).await else { return };
    backend.recover().await.unwrap();
    let programs = tokio::task::spawn_blocking(provision::kubelab::jupyter).await.unwrap().unwrap();
    let mut spec = spec(App::Jupyter);
    // Simulated nodes have no images: the programs are found by a shell, which a script brings along.
    spec.post_start.script = ":".to_owned();
    let path = env::join_paths([programs.clone()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())));
    spec.env.insert("PATH".to_owned(), path.unwrap().to_str().unwrap().to_owned());
    let order = placed(spec);
    backend.apply(order.clone());
    let ready = reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    settles(&backend, &order, "nobody does anything", &[]).await;
    let all = activity(&backend, &order).await;
    assert_eq!(all.keys().collect::<Vec<_>>(), ["kernels", "terminals"], "and nothing else is claimed to be known");
    let python = programs.join("python");
    for script in ["cell:while True: pass", "cell:import time; time.sleep(600)", "leave:import time; time.sleep(600)"] {
        let mut person_there = person(&python, &ready.endpoint, script);
        settles(&backend, &order, script, &["kernels"]).await;
        person_there.kill().await.unwrap();
        assert!(person(&python, &ready.endpoint, "tidy:").wait().await.unwrap().success());
        settles(&backend, &order, "nobody does anything any more", &[]).await;
    }
    // What a terminal prints moves it, again and again.
    let mut typing = person(&python, &ready.endpoint, "terminal:while :; do echo .; sleep 1; done");
    for _ in 0..2 {
        let before = Timestamp::now().as_microsecond();
        let moved = async || match activity(&backend, &order).await["terminals"] {
            State::IdleSinceUs(us) => (us > before).then_some(()),
            _ => None,
        };
        testkit::wait_for("the terminal to have printed", SOON, moved).await;
    }
    typing.kill().await.unwrap();
    end(&backend, &order).await;
}

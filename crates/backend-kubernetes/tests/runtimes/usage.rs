//! What the cluster measures, for those who may do what the chart allows.

use crate::lab::{Lab, PATIENCE};
use backend_kubernetes::{Access, Cluster, Error, metrics};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use serde_json::{Value, json};
use testkit::wait_for;

/// What the chart allows in the namespace of runtimes.
const RULES: &str = include_str!("../../../../deploy/helm/orrery/files/namespace-rules.yaml");

/// The cluster for one who may do this in the namespace, and nothing else.
async fn by_one_who_may(lab: &Lab, who: &str, rules: Vec<Value>) -> Cluster {
    let role: Role = serde_json::from_value(json!({ "metadata": { "name": who }, "rules": rules })).unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": who },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": who },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": who }],
    }))
    .unwrap();
    lab.api::<Role>().create(&PostParams::default(), &role).await.unwrap();
    lab.api::<RoleBinding>().create(&PostParams::default(), &binding).await.unwrap();
    let kubeconfig = std::fs::read_to_string(lab.access.kubeconfig.as_ref().unwrap()).unwrap();
    let mut config: Value = serde_saphyr::from_str(&kubeconfig).unwrap();
    config["users"][0]["user"]["as"] = json!(who);
    let file = std::env::temp_dir().join(format!("{}-{who}", lab.place.namespace));
    std::fs::write(&file, config.to_string()).unwrap();
    let access = Access { kubeconfig: Some(file.clone()) };
    // A role counts a moment after it was made.
    let may = async || Cluster::connect(&access, lab.place.clone()).await.ok();
    let cluster = wait_for("the role to count", PATIENCE, may).await;
    std::fs::remove_file(file).unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_use_is_told_to_whom_the_chart_allows_it() {
    let Some(lab) = Lab::new("usage").await else { return };
    let rules: Vec<Value> = serde_saphyr::from_str(RULES).unwrap();
    let others = rules.iter().filter(|rule| rule["apiGroups"] != json!(["metrics.k8s.io"])).cloned().collect();
    by_one_who_may(&lab, "chart", rules).await.usage().await.unwrap();
    let refused: Error = by_one_who_may(&lab, "other", others).await.usage().await.unwrap_err();
    assert!(metrics::why(&refused).contains("may not list"), "{refused}");
}

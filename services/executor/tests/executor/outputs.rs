//! Outputs in an object store: sent before a result counts, fetched for whoever reads them, removed when they go.

use crate::world::{World, assignment, attempt, pipeline};
use blobs::{Access, Folders};
use domain::id::RunId;
use proto::internal::v1::{
    self as pb, result::Outcome, serve_reads_request::Outcome as Answer, session_request::Message as Up,
    session_response::Message as Down,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
};

const FIRST: &str = r#"
import pandas

@data_loader
def load(*args, **kwargs):
    return pandas.DataFrame({"n": [1, 2, 3]})
"#;

const SECOND: &str = r#"
import os

@data_loader
def load(frame, *args, **kwargs):
    print("SECRETS", sorted(name for name in os.environ if "AWS" in name))
    return {"sum": int(frame["n"].sum())}
"#;

/// A project that keeps its outputs in a bucket and names the key of it.
fn configuration(bucket: &str, endpoint: &str) -> [String; 2] {
    [
        format!("remote_variables_dir: s3://{bucket}/lake"),
        format!("default:\n  AWS_ACCESS_KEY_ID: key\n  AWS_SECRET_ACCESS_KEY: secret\n  AWS_ENDPOINT: {endpoint}\n"),
    ]
}

async fn world(bucket: &str, endpoint: &str) -> World {
    let [metadata, io_config] = configuration(bucket, endpoint);
    World::start(&[("first", FIRST), ("second", SECOND), ("metadata.yaml", &metadata), ("io_config.yaml", &io_config)])
        .await
}

fn second_after(first: &pb::AttemptRef) -> (pb::AttemptRef, pb::Assignment) {
    let second = pb::AttemptRef { block: "second".to_owned(), ..first.clone() };
    let input = pb::Input {
        block: "first".to_owned(),
        mode: pb::InputMode::Whole.into(),
        item: 0,
        outputs: vec![pb::OutputRef { child: -1, lease: first.lease }],
    };
    let assignment = pb::Assignment { inputs: vec![input], ..assignment(&second) };
    (second, assignment)
}

fn blocks() -> domain::pipeline::Pipeline {
    let mut blocks = pipeline(&["first", "second"]);
    blocks.blocks[1].upstream = vec!["first".to_owned()];
    blocks
}

#[tokio::test]
async fn outputs_travel_by_a_bucket_from_one_executor_to_another() {
    let s3 = tokio::task::spawn_blocking(testkit::S3::bucket).await.unwrap();
    let mut world_of_first = world(&s3.bucket, &s3.endpoint).await;
    let mut session = world_of_first.session(&blocks()).await;
    let first = attempt("first");
    session.assign(vec![assignment(&first)]).await;
    let Outcome::Completed(completed) = session.outcome().await else { panic!("it completes") };
    assert_eq!(completed.store, format!("s3://{}/lake", s3.bucket));
    drop(session);
    drop(world_of_first);

    let mut world_of_second = world(&s3.bucket, &s3.endpoint).await;
    let mut session = world_of_second.session(&blocks()).await;
    let (second, assignment) = second_after(&first);
    session.assign(vec![assignment]).await;
    let result = session.result().await;
    assert!(matches!(result.outcome, Some(Outcome::Completed(_))), "{result:?}");
    world_of_second.scheduler.line("the list of variables", |line| line.message == "SECRETS []").await;

    let key = Some(("key".to_owned(), "secret".to_owned(), None));
    let access = Access { aws_key: key, aws_endpoint: Some(s3.endpoint), ..Access::default() };
    let stored = Folders::open(&format!("s3://{}/lake", s3.bucket), &access).unwrap();
    let folder = |attempt: &pb::AttemptRef| {
        let run = domain::id::RunId::from_slice(&attempt.run_id).unwrap();
        domain::unit::output_folder(run, &attempt.block, attempt.child, attempt.lease)
    };
    let sum = stored.read(&folder(&second), "output_0/data.json", 99).await.unwrap().unwrap();
    assert_eq!(sum, r#"{"sum":6}"#);
    assert!(stored.read(&folder(&first), "preview.json", 9_999).await.unwrap().is_some());
    session.acknowledge(&second, false).await;
    testkit::wait_for("the refused outputs to leave the bucket", crate::scheduler::SOON, async || {
        stored.read(&folder(&second), "manifest.json", 9).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(stored.read(&folder(&first), "manifest.json", 9).await.unwrap().is_some(), "what counts stays");
}

const CURIOUS: &str = r#"
import pandas
from orrery_runner import current

@data_loader
def load(*args, **kwargs):
    try:
        print("TOLD", current.call("place_secrets", {}))
    except Exception as error:
        print("refused", error)
    print("written to", "hidden-" + "lake")
    return pandas.DataFrame({"n": [1]})
"#;

#[tokio::test]
async fn a_bucket_that_a_secret_names_is_asked_for_before_each_attempt_and_never_told() {
    let s3 = tokio::task::spawn_blocking(|| testkit::S3::named("hidden-lake")).await.unwrap();
    let place = "s3://{{ mage_secret_var('bucket') }}/lake";
    let [_, io_config] = configuration("", &s3.endpoint);
    let metadata = format!("remote_variables_dir: {place}");
    let files = [("first", CURIOUS), ("metadata.yaml", metadata.as_str()), ("io_config.yaml", io_config.as_str())];
    let mut world = World::start(&files).await;
    let mut named = pipeline(&["first"]);
    named.place_secrets = vec!["bucket".to_owned()];
    let mut session = world.session(&named).await;
    let mut answered = async |reply: pb::RunnerReply| {
        let first = attempt("first");
        session.assign(vec![assignment(&first)]).await;
        let Some(Up::RunnerCall(call)) = session.next().await else { panic!("a call comes first") };
        assert_eq!((call.method.as_str(), call.attempt.as_ref()), ("place_secrets", Some(&first)));
        let reply = pb::RunnerReply { call_id: call.call_id, attempt: Some(first.clone()), ..reply };
        session.say(Down::RunnerReply(reply)).await;
        (first, session.outcome().await)
    };
    let of = |bucket: &str| pb::RunnerReply {
        result: json!({ "bucket": bucket }).to_string(),
        ..pb::RunnerReply::default()
    };
    let (first, outcome) = answered(of("hidden-lake")).await;
    let Outcome::Completed(completed) = outcome else { panic!("it completes: {outcome:?}") };
    assert_eq!(completed.store, place);
    let no_method = "refused place_secrets: the cluster has no method `place_secrets`";
    world.scheduler.line("the refusal", |line| line.message == no_method).await;
    world.scheduler.line("the masked line", |line| line.message == "written to [secret]").await;
    let run = run_of(&first);
    assert!(
        s3.objects().iter().any(|name| name.starts_with(&format!("lake/{run}/")) && name.ends_with("manifest.json"))
    );
    // Somebody looks at it: what is asked for is read and nothing kept, with the secret that comes with the question.
    let order = |file: &str, (offset, length): (i64, i64), secrets: &[(&str, &str)]| pb::ServeReadsResponse {
        id: offset + 7,
        bundle_digest: world.digest.clone(),
        secrets: secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        folder: domain::unit::output_folder(RunId::from_slice(&first.run_id).unwrap(), "first", -1, first.lease),
        file: file.to_owned(),
        offset,
        length,
    };
    let known = [("bucket", "hidden-lake")];
    let mut manifest = Vec::new();
    for part in [(0, 20), (20, 1 << 20)] {
        let Some(Answer::Part(part)) = world.scheduler.read(order("manifest.json", part, &known)).await else {
            panic!("there is one")
        };
        manifest.extend(part.content);
        assert!(manifest.len() == 20 || manifest.len() as i64 == part.size_bytes, "{} bytes", manifest.len());
    }
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&manifest).unwrap()["outputs"][0]["name"], "output_0");
    assert_eq!(world.scheduler.read(order("none", (0, 1), &known)).await, None);
    for (file, secrets, why) in [
        ("manifest.json", &[][..], "secret `bucket`"),
        ("../manifest.json", &known[..], "is no path"),
        ("a", &[("bucket", "hidden-other")][..], place),
    ] {
        match world.scheduler.read(order(file, (0, 1), secrets)).await {
            Some(Answer::Failure(told)) => assert!(told.contains(why) && !told.contains("hidden"), "{told}"),
            // A bucket that is not there has no file.
            other => assert!(other.is_none() && file == "a", "{other:?}"),
        }
    }
    // A new value holds from the next attempt on; what the store says about it holds its name.
    let (_, outcome) = answered(of("hidden-and-gone")).await;
    let Outcome::Failed(failed) = outcome else { panic!("there is no such bucket: {outcome:?}") };
    assert!(failed.message.contains(place) && !failed.message.contains("hidden"), "{failed:?}");
    for (reply, told) in [
        (pb::RunnerReply { result: "{}".to_owned(), ..pb::RunnerReply::default() }, "`bucket`"),
        (pb::RunnerReply { error: "no key opens it".to_owned(), ..pb::RunnerReply::default() }, "no key opens it"),
    ] {
        let (_, outcome) = answered(reply).await;
        let Outcome::Failed(failed) = outcome else { panic!("nobody knows the place: {outcome:?}") };
        assert!(failed.message.contains(told), "{failed:?}");
    }
    drop(session);

    let secrets = [("bucket".to_owned(), "hidden-lake".to_owned())];
    let due =
        pb::Removal { run_id: first.run_id.clone(), bundle_digest: world.digest.clone(), secrets: secrets.into() };
    let unnamed = pb::Removal { run_id: RunId::new_in(0).to_vec(), secrets: [].into(), ..due.clone() };
    world.scheduler.removals.due.lock().unwrap().extend([due, unnamed.clone()]);
    world.serve_again().await;
    let reports = world.scheduler.removals.reports.clone();
    testkit::wait_for("the report", crate::scheduler::SOON, async || {
        (!reports.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    let report = reports.lock().unwrap().remove(0);
    assert_eq!(report.removed_run_ids, [first.run_id]);
    assert_eq!((report.failures.len(), &report.failures[0].run_id), (1, &unnamed.run_id));
    assert!(report.failures[0].error.contains("secret `bucket`"), "{report:?}");
    assert!(!s3.objects().iter().any(|name| name.contains(&run)), "{:?}", s3.objects());
    assert!(!world.scheduler.lines().iter().any(|line| line.message.contains("hidden")));
}

#[tokio::test]
async fn a_store_that_refuses_fails_the_attempt_with_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 65_536]);
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let mut world = world("closed", &endpoint).await;
    let mut session = world.session(&blocks()).await;
    session.assign(vec![assignment(&attempt("first"))]).await;
    let Outcome::Failed(failed) = session.outcome().await else { panic!("it fails") };
    assert_eq!(failed.code, "OUTPUT", "{failed:?}");
    assert!(failed.message.contains("s3://closed/lake") && failed.message.contains("credential"), "{failed:?}");
}

#[tokio::test]
async fn a_store_of_somebody_else_is_not_opened_with_our_credentials() {
    let mut world = World::start(&[("first", FIRST), ("metadata.yaml", "remote_variables_dir: s3://lake/x")]).await;
    let mut session = world.session(&pipeline(&["first"])).await;
    session.assign(vec![assignment(&attempt("first"))]).await;
    let Outcome::Failed(failed) = session.outcome().await else { panic!("it fails") };
    assert!(failed.message.contains("project_outputs") && failed.message.contains("s3://lake/x"), "{failed:?}");
}

/// Two runs with outputs; the first one's are to go. Answers both attempts, when the executor has said that it is done.
async fn expired(world: &mut World) -> [pb::AttemptRef; 2] {
    let mut session = world.session(&blocks()).await;
    let (old, young) = (attempt("first"), attempt("first"));
    for one in [&old, &young] {
        session.assign(vec![assignment(one)]).await;
        assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    }
    // Where it is to look is known from the code that wrote it. A run that never wrote anything is removed as well.
    let due = [old.run_id.clone(), RunId::new_in(0).to_vec()];
    let due: Vec<_> = due
        .map(|run_id| pb::Removal { run_id, bundle_digest: world.digest.clone(), secrets: [].into() })
        .into_iter()
        .collect();
    let all: BTreeSet<Vec<u8>> = due.iter().map(|removal| removal.run_id.clone()).collect();
    world.scheduler.removals.due.lock().unwrap().extend(due);
    // It asks when it starts.
    world.serve_again().await;
    drop(session);
    let removals = world.scheduler.removals.clone();
    testkit::wait_for("the report", crate::scheduler::SOON, async || {
        (!removals.reports.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    let report = removals.reports.lock().unwrap().remove(0);
    assert_eq!(report.failures, []);
    assert_eq!(report.removed_run_ids.into_iter().collect::<BTreeSet<_>>(), all);
    [old, young]
}

/// The runs whose folders are below this one.
fn runs_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn run_of(attempt: &pb::AttemptRef) -> String {
    RunId::from_slice(&attempt.run_id).unwrap().to_string()
}

#[tokio::test]
async fn files_of_a_run_whose_outputs_expired_are_removed_from_the_disk() {
    let mut world = World::start(&[("first", FIRST), ("second", SECOND)]).await;
    let [old, young] = expired(&mut world).await;
    assert!(!world.outputs(&old).exists(), "{old:?}");
    assert!(world.outputs(&young).join("manifest.json").is_file(), "another run keeps its own");
    assert_eq!(runs_in(&world.settings.data_dir.join("outputs")), BTreeSet::from([run_of(&young)]));
}

#[tokio::test]
async fn objects_of_a_run_whose_outputs_expired_are_removed_from_the_bucket() {
    let s3 = tokio::task::spawn_blocking(testkit::S3::bucket).await.unwrap();
    let mut world = world(&s3.bucket, &s3.endpoint).await;
    let attempts = expired(&mut world).await;
    let key = Some(("key".to_owned(), "secret".to_owned(), None));
    let access = Access { aws_key: key, aws_endpoint: Some(s3.endpoint.clone()), ..Access::default() };
    let stored = Folders::open(&format!("s3://{}/lake", s3.bucket), &access).unwrap();
    let mut there = Vec::new();
    for attempt in &attempts {
        let run = RunId::from_slice(&attempt.run_id).unwrap();
        let folder = domain::unit::output_folder(run, &attempt.block, attempt.child, attempt.lease);
        let mut objects = Vec::new();
        for name in ["manifest.json", "preview.json", "output_0/data.parquet"] {
            objects.push(stored.read(&folder, name, 1 << 20).await.is_ok_and(|object| object.is_some()));
        }
        there.push(objects);
    }
    assert_eq!(there[0], [false; 3]);
    assert!(there[1][0] && there[1][1], "another run keeps its own: {there:?}");
}

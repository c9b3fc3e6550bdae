//! Outputs in a bucket whose name, folder and key are secrets: written, read, shown and removed, and nobody is told where.
//!
//! Apart from other secrets, and first by its name: the removal that it waits for takes a minute and a half.

use crate::{cluster::Cluster, project::step, secrets::holder, wait, workspace::Workspace};
use std::{fs, time::Duration};

/// What says where outputs are: a bucket, a folder in it, and the key that opens it.
const BUCKET: &str = "canary-9c4b-bucket";
const PREFIX: &str = "canary-9c4b-prefix";
const KEY: &str = "canary-9c4b-key";
/// A removal begins a minute after it was asked for, and executors ask twice a minute what there is to remove.
const REMOVED_WITHIN: Duration = Duration::from_secs(150);

#[test]
fn a_secret_says_where_outputs_are_and_is_told_to_nobody() {
    let s3 = testkit::S3::named(BUCKET);
    let cluster = Box::leak(Box::new(Cluster::without_buckets()));
    let workspace = Workspace::new(cluster, "hidden");
    let place = "s3://{{ mage_secret_var('bucket') }}/x/{{ mage_secret_var('prefix') }}";
    // No block may ask for any of them.
    workspace.write("metadata.yaml", &format!("remote_variables_dir: {place}\nsecrets: []\n"));
    let io_config = format!(
        "default:\n  AWS_ACCESS_KEY_ID: \"{{{{ mage_secret_var('key') }}}}\"\n  AWS_SECRET_ACCESS_KEY: secret\n  \
         AWS_ENDPOINT: {}\n",
        s3.endpoint
    );
    workspace.write("io_config.yaml", &io_config);
    let give = "from mage_ai.data_preparation.shared.secrets import get_secret_value\n\
                @data_loader\ndef f(*args, **kwargs):\n    assert get_secret_value('bucket') is None\n    return {'n': 7}\n";
    let steps = [
        step("data_loader", "give", give),
        step("transformer", "pass", "@transformer\ndef f(x, *args, **kwargs):\n    return {'n': x['n'] * 6}\n")
            .after(&["give"]),
        // More than one message holds.
        step("transformer", "large", "@transformer\ndef f(x, *args, **kwargs):\n    return 'x' * 3_000_001\n")
            .after(&["give"]),
    ];
    workspace.pipeline("p", "", &steps);
    let other = "from mage_ai.data_preparation.variable_manager import get_variable\n\
                 @data_loader\ndef f(*args, **kwargs):\n    return get_variable('p', 'pass')\n";
    workspace.pipeline("q", "", &[step("data_loader", "ask", other)]);
    workspace.deploy().with_code(0);
    // Without them nothing runs, and what is missing is named.
    let failed = workspace.run("p").failed();
    workspace.logged(&failed, "orrery secrets set");
    let file = tempfile::NamedTempFile::new().unwrap();
    let set = |name: &str, value: &str, more: &[&str]| {
        fs::write(file.path(), value).unwrap();
        let words = [&["secrets", "set", name, "--from-file", file.path().to_str().unwrap()], more].concat();
        workspace.orrery(&words).with_code(0);
    };
    set("bucket", BUCKET, &[]);
    set("key", KEY, &[]);
    set("prefix", "of-others", &[]);
    set("prefix", PREFIX, &["--pipeline", "p"]);

    let first = workspace.run("p").completed();
    let second = workspace.run("p").completed();
    let asked = workspace.run("q").completed();
    for run in [&first, &second] {
        let manifest = |name: &String| {
            name.starts_with(&format!("x/{PREFIX}/{}/pass/", run.id())) && name.ends_with("manifest.json")
        };
        assert_eq!(s3.objects().iter().filter(|name| manifest(name)).count(), 1, "{:?}", s3.objects());
    }
    assert!(s3.objects().iter().any(|name| name.starts_with(&format!("x/of-others/{}/ask/", asked.id()))));
    let shown = workspace.orrery(&["outputs", second.id(), "pass"]).with_code(0).json();
    assert_eq!(
        shown["outputs"][0]["text"].as_str().map(|text| text.replace(' ', "")),
        Some(r#"{"n":42}"#.to_owned()),
        "{shown}"
    );
    let of_other = workspace.orrery(&["outputs", asked.id(), "ask"]).with_code(0).json();
    assert_eq!(of_other["outputs"][0]["text"], shown["outputs"][0]["text"], "read by the secrets of its own pipeline");
    // Neither shown nor saved by this server's own means: an executor reads, part by part.
    let saved = workspace.meet().join("saved");
    workspace.orrery(&["outputs", second.id(), "large", "--save", saved.to_str().unwrap()]).with_code(0);
    assert!(holder(&saved, &"x".repeat(3_000_001)).is_some(), "{saved:?}");

    workspace.orrery(&["clean", "--before", "0h", "--pipeline", "p"]).with_code(0);
    wait::until("the bucket to be without the first run", REMOVED_WITHIN, || {
        (!s3.objects().iter().any(|name| name.contains(first.id()))).then_some(())
    });
    assert!(s3.objects().iter().any(|name| name.contains(second.id())), "the latest completed run keeps its own");

    // A bucket that is not there: nobody quotes what the store says about it.
    set("bucket", &format!("{BUCKET}-gone"), &[]);
    let lost = workspace.run("p").failed();
    let blind = workspace.orrery(&["outputs", second.id(), "pass"]).with_code(0).json();
    let told = blind["unavailable"].as_str().unwrap_or_default();
    assert!(told.contains("nothing was noted"), "{blind}");
    for run in [&first, &second, &lost] {
        let kept: [&[&str]; 5] =
            [&["logs", run.id()], &["blocks", run.id()], &["outputs", run.id(), "pass"], &["runs"], &["audit"]];
        for words in kept {
            let told = format!("{:?}", workspace.plain(words));
            assert!(!told.contains("canary-9c4b"), "{words:?}: {told}");
        }
    }
    assert_eq!(holder(cluster.folder(), "canary-9c4b"), None);
}

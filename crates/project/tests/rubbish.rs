//! Rubbish of every kind, in pipelines: each gives an error at the right place, and hides nothing else.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is built from")]

use project::{Project, Severity, load};
use std::{fs, os::unix::fs::symlink, path::Path};

/// A project with a good pipeline, the given `bad` one, and files for blocks a, b and c.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(bad: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("metadata.yaml", "project_type: standalone\nretry_config: {retries: 2, delay: 1}\n");
        folder.write("pipelines/good/metadata.yaml", "blocks: [{uuid: a, type: data_loader, language: python}]\n");
        folder.write("pipelines/bad/metadata.yaml", bad);
        folder.write("data_loaders/a.py", "");
        folder.write("transformers/b.py", "");
        folder.write("transformers/deep/c.py", "");
        folder
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("demo")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn load(&self) -> Project {
        load(&self.path(), &|_| None)
    }
}

/// The first finding about the bad pipeline; the good one is always there.
#[track_caller]
fn first(folder: &Folder, severity: Severity) -> String {
    let project = folder.load();
    let good = project.pipelines.iter().find(|p| p.name == "good").unwrap();
    assert!(good.definition.is_ok());
    let bad = project.pipelines.iter().find(|p| p.name == "bad").unwrap();
    assert_eq!(bad.definition.is_err(), severity == Severity::Error, "{:?}", project.diagnostics);
    let found = project.diagnostics.iter().find(|d| d.severity == severity && d.pipeline == "bad");
    let found = found.unwrap_or_else(|| panic!("{:?}", project.diagnostics));
    assert!(!found.remedy.is_empty(), "{found}");
    found.to_string()
}

#[track_caller]
fn refuses(bad: &str, expected: &str) {
    let found = first(&Folder::new(bad), Severity::Error);
    assert!(found.contains(expected), "\nfound    {found}\nexpected {expected}");
}

#[track_caller]
fn warns(bad: &str, expected: &str) -> domain::pipeline::Pipeline {
    let folder = Folder::new(bad);
    let found = first(&folder, Severity::Warning);
    assert!(found.contains(expected), "\nfound    {found}\nexpected {expected}");
    folder.load().pipelines.into_iter().find(|p| p.name == "bad").unwrap().definition.unwrap()
}

#[test]
fn broken_files() {
    refuses("blocks:\n- uuid: a\n  type: [x\n- uuid: b\n", "metadata.yaml:");
    refuses("", "is empty");
    refuses("- a\n- b\n", "expected a map of keys and values, found a list");
    refuses("blocks: 7\n", "metadata.yaml:1 (blocks): expected a list, found 7");
    refuses("blocks: [1]\n", "(blocks[0]): expected a map");
    refuses("blocks:\n- {type: data_loader}\n", "metadata.yaml:2 (blocks[0]): the block has no uuid");
    let bomb: String = (1..10).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |bomb, n| {
        format!("{bomb}a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(10))
    });
    refuses(&bomb, "error: pipelines/bad/metadata.yaml");
}

#[test]
fn graphs() {
    refuses(
        "blocks:\n- {uuid: a, type: data_loader}\n- {uuid: b, type: transformer, upstream_blocks: [aa]}\n",
        "metadata.yaml:3 (blocks[1].upstream_blocks[0]): block \"b\" waits for \"aa\", which is not a block of this pipeline; did you mean \"a\"?",
    );
    refuses(
        "blocks:\n- {uuid: a, type: data_loader, upstream_blocks: [b]}\n- {uuid: b, type: transformer, upstream_blocks: [a]}\n",
        "blocks wait for each other",
    );
    refuses("blocks:\n- {uuid: a, type: data_loader, upstream_blocks: [a]}\n", "blocks wait for each other: a → a");
    refuses(
        "blocks:\n- {uuid: a, type: data_loader}\n- {uuid: a, type: data_loader}\n",
        "metadata.yaml:3 (blocks[1].uuid): the uuid \"a\" is taken by another block, in line 2",
    );
}

#[test]
fn values() {
    refuses(
        "type: pyhton\nblocks: []\n",
        "metadata.yaml:1 (type): the pipeline type \"pyhton\" is not known; did you mean \"python\"?",
    );
    refuses("blocks: [{uuid: a, type: data_loadr}]\n", "did you mean \"data_loader\"?");
    refuses("blocks: [{uuid: a}]\n", "the block has no type");
    refuses("blocks: [{uuid: a, type: data_loader, language: phyton}]\n", "did you mean \"python\"?");
    refuses("blocks: [{uuid: a, type: data_loader, timeout: soon}]\n", "(blocks[0].timeout): expected a whole number");
    refuses("blocks: [{uuid: a, type: data_loader, timeout: -1}]\n", "expected a whole number");
    refuses(
        "blocks: [{uuid: a, type: data_loader, retry_config: {retries: many}}]\n",
        "(blocks[0].retry_config.retries)",
    );
    refuses("concurrency_config: {block_run_limit: x}\nblocks: []\n", "(concurrency_config.block_run_limit)");
    refuses("concurrency_config: {on_pipeline_run_limit_reached: skp}\nblocks: []\n", "did you mean \"skip\"?");
    refuses("variables: [1]\nblocks: []\n", "(variables): expected a map");
}

#[test]
fn files() {
    refuses("blocks: [{uuid: x, type: sensor}]\n", "block \"x\" has no file: expected sensors/x.py");
    refuses("blocks: [{uuid: a, type: data_loader, language: sql}]\n", "set `language: python`");
    refuses("blocks: [{uuid: ../a, type: data_loader}]\n", "leaves its folder");
    refuses("blocks: [{uuid: /a, type: data_loader}]\n", "leaves its folder");
    for path in ["../../secret.py", "/etc/secret.py", "a/../../../x.py"] {
        refuses(
            &format!("blocks: [{{uuid: a, type: data_loader, configuration: {{file_path: {path}}}}}]\n"),
            "(blocks[0].configuration.file_path)",
        );
    }
    refuses("blocks: [{uuid: r, type: transformer, replicated_block: bb}]\n", "replicates \"bb\", which is neither");
}

#[test]
fn symlinks_out_of_the_project() {
    let folder = Folder::new("blocks: [{uuid: leak, type: data_loader}]\n");
    fs::write(folder.0.path().join("secret.py"), "").unwrap();
    symlink("../../secret.py", folder.path().join("data_loaders/leak.py")).unwrap();
    assert!(first(&folder, Severity::Error).contains("is a symlink that leads out of the project folder"));
    let folder = Folder::new("");
    fs::remove_file(folder.path().join("pipelines/bad/metadata.yaml")).unwrap();
    fs::write(folder.0.path().join("other.yaml"), "blocks: []").unwrap();
    symlink("../../../other.yaml", folder.path().join("pipelines/bad/metadata.yaml")).unwrap();
    assert!(first(&folder, Severity::Error).contains("leads out of the project folder"));
}

#[test]
fn quirks_are_tolerated_with_a_warning() {
    let pipeline = warns(
        "uuid: other\nblocks:\n- {uuid: a, type: data_loader, language: null}\n- {uuid: b, type: transformer, upstream_blocks: [a]}\n",
        "calls itself \"other\"",
    );
    assert_eq!((pipeline.name.as_str(), pipeline.blocks.len()), ("bad", 2));
    let pipeline = warns(
        "blocks:\n- {uuid: a, type: data_loader}\n- {uuid: deep/c, type: transformer, upstream_blocks: [a, a]}\n",
        "(blocks[1].upstream_blocks[1]): the upstream block \"a\" is listed twice",
    );
    assert_eq!(pipeline.blocks[1].upstream, ["a"]);
    assert_eq!(pipeline.blocks[1].file.as_deref(), Some("transformers/deep/c.py"));
    warns("variables_dir: /home/somebody/data\nblocks: []\n", "but where the executors keep them");
    warns("blocks: [{uuid: a, type: data_loader, upstream_block: [x]}]\n", "did you mean \"upstream_blocks\"?");
    warns("blocks: []\nblocks: []\n", "written twice");
    let pipeline = warns("variables_retention_period: 1h\nblocks: []\n", "holds for the whole project");
    assert_eq!((pipeline.outputs_retention_s, pipeline.runs_retention_s), (None, None));
    let pipeline =
        warns("blocks: [{uuid: a, type: data_loader, has_callback: true}]\n", "there is no callbacks/a_callback.py");
    assert!(pipeline.callbacks.is_empty());
    let source =
        "blocks: [{uuid: a, type: data_loader, configuration: {file_source: {path: /home/x/p/data_loaders/a.py}}}]\n";
    assert_eq!(warns(source, "is ignored").blocks[0].file.as_deref(), Some("data_loaders/a.py"));
    let typo = "blocks: [{uuid: a, type: data_loader, executor_type: local_pyton}]\n";
    assert_eq!(warns(typo, "did you mean \"local_python\"?").blocks[0].executor_type.as_deref(), Some("local_pyton"));
    warns("executor_type: \"{{ env_var('WHERE') }}\"\nblocks: []\n", "renders to nothing");
    warns("executor_type: \"{{ env_var( }}\"\nblocks: []\n", "does not render");
    warns("executor_type: ecs\nblocks: []\n", "runs as a process of an executor");
    let guard = "blocks: [{uuid: a, type: data_loader}]\ncallbacks: [{uuid: b, type: callback, upstream_blocks: [a, gone], configuration: {file_path: transformers/b.py}}]\n";
    assert_eq!(warns(guard, "\"gone\"").callbacks[0].upstream, ["a"]);
}

#[test]
fn what_is_read() {
    let folder = Folder::new(
        "type: python\nexecutor_type: k8s\nvariables: {n: 1}\nrun_pipeline_in_one_process: true\ntimeout: 60\n\
         retry_config: {max_delay: 9}\nconcurrency_config: {block_run_limit: 3}\nblocks:\n\
         - {uuid: a, type: data_loader, configuration: {dynamic: true, file_path: input.csv}, retry_config: {retries: 5}}\n\
         - {uuid: b, type: transformer, upstream_blocks: [a], configuration: {dynamic: {parent: false, reduce_output: true}}}\n\
         - {uuid: b2, type: transformer, upstream_blocks: [b], replicated_block: b, timeout: 7}\n\
         - {uuid: nothing, type: custom, executor_type: noop}\n- {uuid: note, type: markdown}\n",
    );
    folder.write("requirements.txt", "# none\n");
    folder.write("callbacks/a_callback.py", "");
    let env = |name: &str| (name == "CONCURRENCY_CONFIG_PIPELINE_RUN_LIMIT").then(|| "4".to_owned());
    let project = load(&folder.path(), &env);
    let said: Vec<&str> = project.diagnostics.iter().map(|diagnostic| diagnostic.key.as_str()).collect();
    assert_eq!(said, ["executor_type"], "{:?}", project.diagnostics);
    assert_eq!((project.name.as_str(), project.requirements_digest), ("demo", None));
    insta::assert_json_snapshot!(project.pipelines[0].definition.as_ref().unwrap());
}

#[test]
fn broken_project_files_leave_the_pipelines_alone() {
    let folder = Folder::new("blocks: []\n");
    folder.write("metadata.yaml", "a: {{ env_var( }}\n");
    folder.write("io_config.yaml", "default:\n  PASSWORD: 'hunter2\n  x: [\n");
    folder.write(
        "pipelines/bad/triggers.yaml",
        "triggers: [{name: t, schedule_type: api}, {name: u, schedule_interval: nope}]\n",
    );
    let project = folder.load();
    let found: Vec<String> = project.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(project.errors(), 3, "{found:#?}");
    assert!(!found.concat().contains("hunter2"));
    assert_eq!(project.definitions().count(), 2);
    assert_eq!(project.pipelines[0].triggers.len(), 1);
    assert!(load(Path::new("/nowhere/at/all"), &|_| None).errors() == 1);
}

/// Every warning about the project itself.
fn told(folder: &Folder) -> Vec<String> {
    let found = folder.load().diagnostics;
    assert!(found.iter().all(|d| !d.remedy.is_empty()), "{found:?}");
    found.iter().filter(|d| d.severity == Severity::Warning && d.pipeline.is_empty()).map(ToString::to_string).collect()
}

#[track_caller]
fn tells(folder: &Folder, expected: &[&str]) {
    let found = told(folder);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("warning: {expected}")), "\nfound    {found}\nexpected {expected}");
    }
}

const GOOD: &str = "blocks: [{uuid: a, type: data_loader}]\n";

#[test]
fn keys_of_the_project_that_nobody_reads_are_told() {
    let folder = Folder::new(GOOD);
    let typos = "concurency_config: {block_run_limit: 2}\nretry_conifg: {retries: 1}\nbogus: 1\n";
    folder.write("metadata.yaml", typos);
    tells(
        &folder,
        &[
            "metadata.yaml:1 (concurency_config): the key \"concurency_config\" is not known and is ignored; did you mean \"concurrency_config\"?",
            "metadata.yaml:2 (retry_conifg): the key \"retry_conifg\" is not known and is ignored; did you mean \"retry_config\"?",
            "metadata.yaml:3 (bogus): the key \"bogus\" is not known and is ignored; remove it",
        ],
    );
    folder.write(
        "metadata.yaml",
        "subproject_path: a\nhelp_improve_mage: true\nlimits: {warehouse: 2}\nrun_retention_period: 9d\n",
    );
    tells(&folder, &[]);
}

#[test]
fn a_folder_without_pipelines_names_the_place() {
    let folder = Folder::new(GOOD);
    fs::rename(folder.path().join("pipelines"), folder.path().join("away")).unwrap();
    tells(&folder, &["pipelines/: there are no pipelines: no folder pipelines/<name> has a metadata.yaml"]);
    folder.write("settings.yaml", "projects: {}\n");
    tells(&folder, &["pipelines/: there are no pipelines here; settings.yaml says"]);
}

#[test]
fn logging_config_is_not_passed_over_in_silence() {
    let folder = Folder::new(GOOD);
    folder.write("metadata.yaml", "logging_config:\n  level: LOUD\n  type: s3\n  retention_period: 15 years\n");
    tells(
        &folder,
        &[
            "metadata.yaml:3 (logging_config.type): logging_config.type is ignored",
            "metadata.yaml:2 (logging_config.level): \"LOUD\" is no level",
            "metadata.yaml:4 (logging_config.retention_period): the period \"15 years\" is not understood",
        ],
    );
    folder.write("metadata.yaml", "logging_config:\n  level: debug\n  retention_period: 15d\n");
    tells(&folder, &[]);
}

#[test]
fn secrets_that_only_blocks_are_given() {
    let folder = Folder::new(GOOD);
    let notifications = "notification_config:\n  slack_config:\n    webhook_url: \"{{ aws_secret_var('slack') }}\"\n";
    let io_config = "default:\n  AWS_REGION: {{ mage_secret_var('region') }}\n  AWS_SECRET_ACCESS_KEY: {{ aws_secret_var('aws') }}\n  \
                     POSTGRES_PASSWORD: {{ aws_secret_var('pg') }}\n\
                     other:\n  AWS_SECRET_ACCESS_KEY: {{ aws_secret_var('aws') }}\n";
    folder.write("metadata.yaml", notifications);
    folder.write("io_config.yaml", io_config);
    let of_slack = "metadata.yaml:3 (notification_config.slack_config.webhook_url): only secrets of the cluster";
    tells(&folder, &[of_slack]);
    assert!(told(&folder)[0].contains("mage_secret_var"));
    // With a store of its own for outputs, executors need the profile's keys too.
    folder.write("metadata.yaml", &format!("{notifications}remote_variables_dir: s3://lake/prefix\n"));
    tells(
        &folder,
        &[of_slack, "io_config.yaml:3 (default.AWS_SECRET_ACCESS_KEY): only secrets of the cluster are known"],
    );
}

#[test]
fn secrets_of_the_place_of_outputs_are_named_in_every_definition_and_stay_references() {
    let folder = Folder::new(GOOD);
    folder.write(
        "io_config.yaml",
        "default:\n  AWS_ACCESS_KEY_ID: {{ mage_secret_var('key') }}\n  X: {{ mage_secret_var('x') }}\n",
    );
    folder.write("metadata.yaml", "remote_variables_dir: s3://{{ mage_secret_var('bucket') }}/x\nsecrets: []\n");
    tells(&folder, &[]);
    let project = load(&folder.path(), &|_| None);
    assert_eq!(project.metadata.remote_variables_dir.as_deref(), Some("s3://{{ mage_secret_var('bucket') }}/x"));
    let pipeline = project.pipelines.into_iter().find_map(|p| p.definition.ok()).unwrap();
    assert_eq!(pipeline.place_secrets, ["bucket", "key"]);
    folder.write("metadata.yaml", "remote_variables_dir: s3://{{ azure_secret_var('bucket') }}/x\n");
    tells(&folder, &["metadata.yaml:1 (remote_variables_dir): only secrets of the cluster"]);
}

#[test]
fn secrets_of_notifications_stay_references() {
    let folder = Folder::new(GOOD);
    let config = |text: &str| {
        folder.write("metadata.yaml", text);
        tells(&folder, &[]);
        let project = load(&folder.path(), &|name| (name == "HOST").then(|| "hooks.example".to_owned()));
        project.pipelines.into_iter().find_map(|p| p.definition.ok()).unwrap().notification_config
    };
    // However YAML quotes it, and beside what is known.
    for written in
        ["{{ mage_secret_var('slack') }}", "'{{ mage_secret_var(\"slack\") }}'", "\"{{mage_secret_var('slack')}}\""]
    {
        let config = config(&format!("notification_config:\n  slack_config:\n    webhook_url: {written}\n"));
        assert_eq!(config["slack_config"]["webhook_url"], "{{ mage_secret_var('slack') }}", "{written}");
    }
    let both = "https://{{ env_var('HOST') }}/{{ mage_secret_var('a') }}/{{ mage_secret_var('b.c') }}";
    let config = config(&format!("notification_config:\n  slack_config: {{webhook_url: \"{both}\"}}\n"));
    let expected = "https://hooks.example/{{ mage_secret_var('a') }}/{{ mage_secret_var('b.c') }}";
    assert_eq!(config["slack_config"]["webhook_url"], expected);
}

#[test]
fn what_data_products_leave_out() {
    let folder = Folder::new(GOOD);
    let product = "{outdated_after: {days: 1}, outdated_starting_at: {hour_of_day: 3, minute: 1, day_of_week: 7, \
                   month_of_year: 12, day_of_month: x}, settings: {a: {partitions: 2}}}";
    folder.write("global_data_products.yaml", &format!("sales:\n  {product}\nplain: {{object_uuid: p}}\n"));
    tells(
        &folder,
        &[
            "global_data_products.yaml:2 (sales.outdated_starting_at.minute): minute is ignored",
            "global_data_products.yaml:2 (sales.outdated_starting_at.day_of_week): day_of_week is never \"7\"",
            "global_data_products.yaml:2 (sales.outdated_starting_at.day_of_month): day_of_month is never \"x\"",
            "global_data_products.yaml:2 (sales.settings.a.partitions): partitions is ignored",
        ],
    );
    folder.write("global_data_products.yaml", "sales: [\n");
    assert!(told(&folder)[0].starts_with("warning: global_data_products.yaml"));
    warns(
        &format!(
            "blocks: [{{uuid: a, type: data_loader}}, {{uuid: g, type: global_data_product, \
             configuration: {{global_data_product: {product}}}}}]\n"
        ),
        "(blocks[1].configuration.global_data_product.outdated_starting_at.minute)",
    );
}

#[test]
fn pauses_of_sensors_that_are_none() {
    for (written, seconds) in [("0", 1), ("0.5", 60), ("soon", 60)] {
        let folder =
            Folder::new(&format!("blocks: [{{uuid: s, type: sensor, configuration: {{poke_interval: {written}}}}}]\n"));
        folder.write("sensors/s.py", "");
        let found = first(&folder, Severity::Warning);
        assert!(found.contains(&format!("poke_interval): the sensor is asked every {seconds} s")), "{found}");
    }
}

#[test]
fn databases_that_sql_blocks_do_not_reach() {
    let with = |kind: &str, provider: &str| {
        let folder = Folder::new(&format!(
            "blocks: [{{uuid: q, type: {kind}, language: sql, configuration: {{data_provider: {provider}}}}}]\n"
        ));
        folder.write("data_loaders/q.sql", "SELECT 1");
        folder.write("dbt/q.sql", "SELECT 1");
        folder
    };
    for provider in ["mysql", "BigQuery", "snowflake"] {
        let found = first(&with("data_loader", provider), Severity::Warning);
        let expected = "(blocks[0].configuration.data_provider): block \"q\" will fail";
        assert!(found.contains(expected) && found.contains(&format!("not on {provider:?}")), "{found}");
        assert!(found.contains("duckdb and postgres"), "{found}");
    }
    for (kind, provider) in [("data_loader", "duckdb"), ("data_loader", "Postgres"), ("dbt", "mysql")] {
        let found = with(kind, provider).load().diagnostics;
        assert!(found.iter().all(|diagnostic| diagnostic.pipeline != "bad"), "{found:?}");
    }
}

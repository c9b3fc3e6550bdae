//! What a pre-start script may change of a runtime: its environment. Refuses to run the script.

use domain::runtime::rules::{ENV_BYTES_MAX, ENV_MAX, is_reserved};
use serde_json::Value;
use std::collections::BTreeMap;

/// Of a pre-start script's answer, the environment. All else is the spec's, and held against what the project may.
pub(super) fn environment(config: &Value, answer: &Value) -> Result<BTreeMap<String, String>, String> {
    let fields = answer.as_object().into_iter().flatten();
    let other: Vec<&str> = fields
        .filter(|(name, value)| *name != "env" && config.get(name) != Some(value))
        .map(|(name, _)| name.as_str())
        .collect();
    if !other.is_empty() {
        return Err(format!("the pre-start script may change `env`, and changed {}", other.join(", ")));
    }
    let wrong = || "`env` of a pre-start script's answer is a list of {name, value}, both texts".to_owned();
    let Some(env) = answer.get("env") else { return Ok(BTreeMap::new()) };
    let pairs = env.as_array().ok_or_else(wrong)?.iter().map(|variable| {
        let text = |field: &str| variable.get(field).and_then(Value::as_str).map(str::to_owned);
        let (name, value) = text("name").zip(text("value")).ok_or_else(wrong)?;
        let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !named || value.contains('\0') {
            return Err(format!("`{name}` is no variable that a pre-start script may set"));
        }
        if is_reserved(&name) {
            return Err(format!("`{name}` is set by the platform; a pre-start script must not set it"));
        }
        Ok((name, value))
    });
    let env: BTreeMap<_, _> = pairs.collect::<Result<_, _>>()?;
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if env.len() > ENV_MAX || bytes > ENV_BYTES_MAX {
        return Err("the environment of a pre-start script's answer is too large".to_owned());
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_script_changes_the_environment_and_nothing_else() {
        let config = json!({ "name": "lab", "image": "", "env": [] });
        let answer = |env: Value| json!({ "name": "lab", "image": "", "env": env });
        let env = environment(&config, &answer(json!([{ "name": "A", "value": "b" }]))).unwrap();
        assert_eq!(env, BTreeMap::from([("A".to_owned(), "b".to_owned())]));
        assert!(environment(&config, &json!({})).unwrap().is_empty());
        for (bad, word) in [
            (json!({ "securityContext": { "privileged": true } }), "securityContext"),
            (json!({ "name": "other" }), "name"),
            (answer(json!({ "A": "b" })), "list"),
            (answer(json!([{ "name": "ORRERY_SESSION", "value": "" }])), "must not"),
            (answer(json!([{ "name": "GPU_CORE_UTILIZATION_POLICY", "value": "DISABLE" }])), "must not"),
            (answer(json!([{ "name": "NVIDIA_VISIBLE_DEVICES", "value": "all" }])), "must not"),
            (answer(json!([{ "name": "LD=x", "value": "" }])), "no variable"),
            (answer(json!([{ "name": "A", "value": 1 }])), "texts"),
        ] {
            let refused = environment(&config, &bad).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }
}

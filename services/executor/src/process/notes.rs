//! The notes that the runner leaves beside outputs, for people to look at: here they lose the secrets that this executor
//! has given out, before the outputs count or travel. Outputs themselves stay as they are: the next block needs them.
//!
//! Refuses to know what the notes tell.

use crate::logs::Masks;
use serde_json::{Map, Value};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The file of notes in an attempt's folder.
const FILE: &str = "preview.json";
/// What it becomes while it is written.
const PARTIAL: &str = "preview.json.partial";
/// The longest file that a reader of notes takes.
const BYTES_MAX: u64 = 1 << 20;

/// Takes the known secrets out of the notes in an attempt's folder. Notes that cannot be read are removed: nobody could
/// show them.
///
/// # Errors
/// When the disk fails; what is there may then hold a secret.
pub(super) async fn clear(folder: PathBuf, masks: &Masks) -> io::Result<()> {
    if masks.is_empty() {
        return Ok(());
    }
    let file = folder.join(FILE);
    let notes = match read(&file).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return tokio::fs::remove_file(file).await,
        notes => notes?,
    };
    let Some(mut cleared) = without(&notes, masks) else { return Ok(()) };
    // A value without its secret is not the value: no program may take it for that.
    for (output, before) in outputs(&mut cleared).iter_mut().zip(notes["outputs"].as_array().into_iter().flatten()) {
        if let Some(fields) = output.as_object_mut().filter(|fields| Some(&**fields) != before.as_object()) {
            fields.insert("complete".to_owned(), Value::Bool(false));
        }
    }
    // Whoever reads meanwhile reads one or the other, and neither is half there.
    tokio::fs::write(folder.join(PARTIAL), cleared.to_string()).await?;
    tokio::fs::rename(folder.join(PARTIAL), file).await
}

fn outputs(notes: &mut Value) -> &mut [Value] {
    notes.get_mut("outputs").and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

async fn read(file: &Path) -> io::Result<Value> {
    if tokio::fs::metadata(file).await?.len() > BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    serde_json::from_slice(&tokio::fs::read(file).await?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The same without secrets; `None` where it holds none.
fn without(value: &Value, masks: &Masks) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(_) => None,
        // One that consists of digits may have become a number on its way.
        Value::Number(number) => masks.apply_to_cut(&number.to_string()).map(Value::String),
        Value::String(text) => masks.apply_to_cut(text).map(Value::String),
        Value::Array(items) => {
            let cleared: Vec<_> = items.iter().map(|item| without(item, masks)).collect();
            let pairs = || items.iter().zip(&cleared);
            cleared
                .iter()
                .any(Option::is_some)
                .then(|| pairs().map(|(item, cleared)| cleared.clone().unwrap_or_else(|| item.clone())).collect())
        }
        Value::Object(fields) => {
            let mut any = false;
            let mut cleared = Map::new();
            for (name, value) in fields {
                let (new_name, new_value) = (masks.apply_to_cut(name), without(value, masks));
                any |= new_name.is_some() || new_value.is_some();
                cleared.insert(new_name.unwrap_or_else(|| name.clone()), new_value.unwrap_or_else(|| value.clone()));
            }
            any.then_some(Value::Object(cleared))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn notes_lose_secrets_wherever_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let write = |notes: &Value| std::fs::write(&file, notes.to_string()).unwrap();
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap();
        let masks = Masks::default();
        let notes = json!({ "version": 1, "outputs": [{
            "name": "output_0", "columns": [["hunter2", "object"]], "complete": true,
            "sample": [["is hunter2", 1, 24_681_357], [null, true, 2.5]],
            "text": "{\"hunter2\": \"-----BEG…\", \"b\": \"hunt…\"}",
        }, { "name": "output_1", "text": "plain", "complete": true }]});
        write(&notes);
        clear(folder.path().to_owned(), &masks).await.unwrap();
        assert_eq!(read(), notes, "who knows no secret changes nothing");
        assert!(masks.add("hunter2") && masks.add("24681357") && masks.add("-----BEGIN KEY-----\nx"));
        clear(folder.path().to_owned(), &masks).await.unwrap();
        let expected = json!({ "version": 1, "outputs": [{
            "name": "output_0", "columns": [["[secret]", "object"]], "complete": false,
            "sample": [["is [secret]", 1, "[secret]"], [null, true, 2.5]],
            "text": "{\"[secret]\": \"[secret]…\", \"b\": \"[secret]…\"}",
        }, { "name": "output_1", "text": "plain", "complete": true }]});
        assert_eq!(read(), expected);
        std::fs::write(&file, "{ \"hunter2").unwrap();
        clear(folder.path().to_owned(), &masks).await.unwrap();
        assert!(!file.exists(), "what cannot be read is not kept");
        clear(folder.path().to_owned(), &masks).await.unwrap();
    }
}

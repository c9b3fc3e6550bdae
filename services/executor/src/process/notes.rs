//! The notes that the runner leaves beside outputs, for people to look at: here they lose the secrets that their
//! workspace was given, before the outputs count or travel. Outputs themselves stay as they are: the next block needs them.
//!
//! Refuses to know what the notes tell.

use crate::{logs::Masks, plain};
use serde_json::{Map, Value};
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file of notes in an attempt's folder.
const FILE: &str = "preview.json";
/// What it becomes while it is written.
const PARTIAL: &str = "preview.json.partial";
/// The longest file that a reader of notes takes.
const BYTES_MAX: u64 = 1 << 20;

/// Takes the known secrets out of the notes in an attempt's folder. Notes that cannot be read are removed: nobody could
/// show them. What user code wrote may take a while, so it is looked through on a thread of its own, which goes on when
/// this is dropped half way.
///
/// # Errors
/// When the disk fails; what is there may then hold a secret.
pub(super) async fn clear(folder: PathBuf, masks: &Arc<Masks>) -> io::Result<()> {
    if masks.is_empty() {
        return Ok(());
    }
    let masks = Arc::clone(masks);
    tokio::task::spawn_blocking(move || clear_now(&folder, &masks)).await.map_err(io::Error::other)?
}

fn clear_now(folder: &Path, masks: &Masks) -> io::Result<()> {
    let file = folder.join(FILE);
    let notes = match read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return fs::remove_file(file),
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
    let partial = folder.join(PARTIAL);
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(&partial)?.write_all(cleared.to_string().as_bytes())?;
    fs::rename(partial, file)
}

fn outputs(notes: &mut Value) -> &mut [Value] {
    notes.get_mut("outputs").and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

/// Only a file: user code makes what it likes of that name.
fn read(file: &Path) -> io::Result<Value> {
    let file = plain::open(file)?;
    if file.metadata()?.len() > BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(|_| io::ErrorKind::InvalidData.into())
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
    use rustix::fs::Mode;
    use serde_json::json;

    #[test]
    fn notes_lose_secrets_wherever_they_stand() {
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
        clear_now(folder.path(), &masks).unwrap();
        assert_eq!(read(), notes, "who knows no secret changes nothing");
        assert!(masks.add("hunter2") && masks.add("24681357") && masks.add("-----BEGIN KEY-----\nx"));
        clear_now(folder.path(), &masks).unwrap();
        let expected = json!({ "version": 1, "outputs": [{
            "name": "output_0", "columns": [["[secret]", "object"]], "complete": false,
            "sample": [["is [secret]", 1, "[secret]"], [null, true, 2.5]],
            "text": "{\"[secret]\": \"[secret]…\", \"b\": \"[secret]…\"}",
        }, { "name": "output_1", "text": "plain", "complete": true }]});
        assert_eq!(read(), expected);
        std::fs::write(&file, "{ \"hunter2").unwrap();
        clear_now(folder.path(), &masks).unwrap();
        assert!(!file.exists(), "what cannot be read is not kept");
        clear_now(folder.path(), &masks).unwrap();
    }
    #[test]
    fn what_is_no_file_is_not_waited_for_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join(FILE), folder.path().join("other"));
        let masks = Masks::default();
        assert!(masks.add("hunter2"));
        let pipe = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
        pipe(&file);
        clear_now(folder.path(), &masks).unwrap();
        assert!(!file.exists());
        let notes = r#"{"text":"hunter2"}"#;
        fs::write(&other, notes).unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        clear_now(folder.path(), &masks).unwrap();
        assert!(fs::symlink_metadata(&file).is_err() && fs::read_to_string(&other).unwrap() == notes);
        fs::write(&file, notes).unwrap();
        pipe(&folder.path().join(PARTIAL));
        clear_now(folder.path(), &masks).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), r#"{"text":"[secret]"}"#);
    }
}

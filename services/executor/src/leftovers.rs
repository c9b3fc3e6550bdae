//! What an earlier life left in a folder, which is nobody's any more: it is renamed at once and removed beside everything
//! else, so that however much it is, no start waits for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};
use uuid::Uuid;

/// How the name of a folder goes on that is being removed.
const GONE: &str = ".gone-";

/// Takes the folder away: when this returns, nothing is there. A life that was killed meanwhile has left more, beside it.
///
/// # Errors
/// When the folder cannot be renamed, or what lies beside it cannot be listed.
pub(crate) fn leave_behind(folder: &Path) -> io::Result<()> {
    let (Some(beside), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let begins = format!("{name}{GONE}");
    match fs::rename(folder, beside.join(format!("{begins}{}", Uuid::new_v4().simple()))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let gone = all_gone(beside, &begins)?;
    if !gone.is_empty() {
        // No thread of the runtime, which would have to be waited for at the end of the process.
        thread::Builder::new().name("leftovers".to_owned()).spawn(move || remove(&gone))?;
    }
    Ok(())
}

fn all_gone(beside: &Path, begins: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(beside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let ours = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.starts_with(begins));
    Ok(entries.flatten().filter(ours).map(|entry| entry.path()).collect())
}

fn remove(gone: &[PathBuf]) {
    for folder in gone {
        if let Err(error) = fs::remove_dir_all(folder) {
            // The next life tries again.
            tracing::warn!(path = %folder.display(), %error, "failed to remove what an earlier life left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_lies_there_and_what_a_killed_life_left_goes_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("views");
        for name in ["views/1/shop", "views.gone-0/2/shop", "views-of-others", "runner"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("a.py"), "a").unwrap();
        }
        leave_behind(&folder).unwrap();
        assert!(!folder.exists(), "it is free at once");
        // The new life's own, made while the rest still goes.
        fs::create_dir_all(folder.join("1")).unwrap();
        let there = || {
            let mut names: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().map(|e| e.file_name()).collect();
            names.sort();
            names
        };
        let alone = async || (there() == ["runner", "views", "views-of-others"]).then_some(());
        testkit::wait_for("the leftovers to go", SOON, alone).await;
        assert!(folder.join("1").exists());
    }

    #[test]
    fn where_nothing_was_nothing_is_done() {
        let root = tempfile::tempdir().unwrap();
        leave_behind(&root.path().join("views")).unwrap();
        leave_behind(&root.path().join("none/views")).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}

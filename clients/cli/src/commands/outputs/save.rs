//! Files of outputs, saved as they were stored. Refuses to know what is in them.

use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
};
use proto::v1::{DownloadOutputRequest, OutputFile, download_output_response::Part};
use std::{
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

/// Saves every file of one output below a folder; answers their paths.
pub(super) async fn output(
    connection: &Connection,
    request: &DownloadOutputRequest,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let (first, path) = file(connection, request.clone(), folder).await?;
    let mut paths = vec![path];
    for name in first.files.into_iter().filter(|name| *name != first.name) {
        paths.push(file(connection, DownloadOutputRequest { file: name, ..request.clone() }, folder).await?.1);
    }
    Ok(paths)
}

/// One file. It appears whole or not at all.
async fn file(connection: &Connection, request: DownloadOutputRequest, folder: &Path) -> Result<(OutputFile, PathBuf)> {
    // No deadline of the whole: it takes as long as its bytes. A silent connection is noticed by its keep-alive.
    let mut answers = connection.outputs().download_output(request).await?.into_inner();
    let Some(Part::File(about)) = answers.message().await?.and_then(|message| message.part) else {
        return Err(Failure::new(Code::Internal, "the server sent no file", ""));
    };
    let path = below(folder, &about.name)?;
    let parent = path.parent().unwrap_or(folder);
    let unwritable = |error: &io::Error| {
        Failure::new(Code::Data, format!("cannot write {}: {error}", path.display()), "name another folder by --save")
    };
    std::fs::create_dir_all(parent).map_err(|error| unwritable(&error))?;
    let copy = tempfile::Builder::new().prefix(".orrery-download-").tempfile_in(parent);
    let mut copy = copy.map_err(|error| unwritable(&error))?;
    let mut size = 0;
    while let Some(message) = answers.message().await? {
        if let Some(Part::Chunk(chunk)) = message.part {
            copy.write_all(&chunk).map_err(|error| unwritable(&error))?;
            size += i64::try_from(chunk.len()).unwrap_or(0);
        }
    }
    if size != about.size_bytes {
        let what = format!("{size} of {} bytes of {} came", about.size_bytes, about.name);
        return Err(Failure::new(Code::Temporary, what, "try again"));
    }
    copy.persist(&path).map_err(|failed| unwritable(&failed.error))?;
    Ok((about, path))
}

/// Where a file goes: never outside of the folder, and a server may be anybody.
fn below(folder: &Path, name: &str) -> Result<PathBuf> {
    let relative = Path::new(name);
    if name.is_empty() || relative.components().any(|part| !matches!(part, Component::Normal(_))) {
        let what = format!("the server names a file {name:?}, which is no path of an output");
        return Err(Failure::new(Code::Internal, what, ""));
    }
    Ok(folder.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_leaves_the_folder() {
        let folder = Path::new("saved");
        assert_eq!(below(folder, "output_0/data.json").unwrap(), Path::new("saved/output_0/data.json"));
        for outside in ["", "../x", "/etc/x", "a/../../x", "."] {
            assert!(below(folder, outside).is_err(), "{outside:?}");
        }
    }
}

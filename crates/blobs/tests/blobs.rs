//! Content in, content out, and what happens when it is not what it says.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is built from")]

use blobs::{Blobs, Bundle, BundleFile, Error};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

fn store(dir: &Path) -> Blobs {
    Blobs::open(&format!("file://{}/blobs", dir.display())).unwrap()
}

async fn put(blobs: &Blobs, digest: &str, size: usize, content: &[u8]) -> Result<(), Error> {
    let chunks: Vec<io::Result<Bytes>> = content.chunks(3).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    blobs.put(digest, size as u64, stream::iter(chunks)).await
}

async fn read(blobs: &Blobs, digest: &str) -> Result<Vec<u8>, Error> {
    blobs
        .get(digest)
        .await?
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
}

/// Every file below, relative.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path.strip_prefix(dir).unwrap().to_owned()) }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn content_comes_back_and_twice_is_once() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = store(dir.path());
    let (content, digest) = (b"some content", sha256(b"some content"));
    let (empty, none) = (sha256(b""), sha256(b"none"));
    put(&blobs, &digest, content.len(), content).await.unwrap();
    put(&blobs, &digest, content.len(), content).await.unwrap();
    put(&blobs, &empty, 0, b"").await.unwrap();
    assert_eq!(read(&blobs, &digest).await.unwrap(), content);
    assert_eq!(read(&blobs, &empty).await.unwrap(), b"");
    assert_eq!(blobs.has_many(&[&none, &digest, &empty]).await.unwrap(), [false, true, true]);
    assert!(matches!(read(&blobs, &none).await, Err(Error::NotFound { .. })));
    assert_eq!(files_below(dir.path()).len(), 2);
    let large = vec![7; 20 << 20];
    blobs.put(&sha256(&large), large.len() as u64, stream::iter([Ok(Bytes::from(large.clone()))])).await.unwrap();
    assert_eq!(read(&blobs, &sha256(&large)).await.unwrap(), large);
}

#[tokio::test]
async fn wrong_content_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = store(dir.path());
    let digest = sha256(b"right");
    assert!(matches!(put(&blobs, &digest, 5, b"wrong").await, Err(Error::Mismatch { .. })));
    assert!(matches!(put(&blobs, &digest, 5, b"right and more").await, Err(Error::Size { .. })));
    assert!(matches!(put(&blobs, &digest, 6, b"right").await, Err(Error::Size { .. })));
    let broken = stream::iter([Ok(Bytes::from_static(b"ri")), Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
    assert!(matches!(blobs.put(&digest, 5, broken).await, Err(Error::Content(_))));
    for bad in ["", "../../etc/passwd", &digest.to_uppercase(), &digest[1..]] {
        assert!(matches!(put(&blobs, bad, 5, b"right").await, Err(Error::NotADigest(_))));
        assert!(matches!(blobs.get_manifest(bad).await, Err(Error::NotADigest(_))));
    }
    assert_eq!(files_below(dir.path()), Vec::<PathBuf>::new());
    assert!(matches!(Blobs::open("file://relative"), Err(Error::Url { .. })));
}

#[tokio::test]
async fn manifests_stay_as_they_were_first() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = store(dir.path());
    let digest = format!("sha256:{}", sha256(b"canonical"));
    assert!(matches!(blobs.get_manifest(&digest).await, Err(Error::NotFound { what: "manifest", .. })));
    blobs.put_manifest(&digest, Bytes::from_static(b"first")).await.unwrap();
    blobs.put_manifest(&digest, Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(blobs.get_manifest(&digest).await.unwrap(), "first");
}

async fn stored_bundle(blobs: &Blobs, files: &[(&str, &str)]) -> Vec<BundleFile> {
    let mut listed = Vec::new();
    for (path, content) in files {
        let sha256 = sha256(content.as_bytes());
        put(blobs, &sha256, content.len(), content.as_bytes()).await.unwrap();
        listed.push(BundleFile { path: (*path).to_owned(), sha256, executable: path.ends_with(".sh") });
    }
    listed
}

#[tokio::test]
async fn a_bundle_is_laid_out_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, into) = (store(dir.path()), dir.path().join("bundles"));
    let files =
        stored_bundle(&blobs, &[("metadata.yaml", "a: 1"), ("custom/x/run.sh", "true"), ("empty.py", "")]).await;
    let digest = format!("sha256:{}", sha256(b"bundle"));
    let bundle = Bundle { digest: &digest, project_name: "demo", files: &files };
    let folder = blobs.materialise(&bundle, &into).await.unwrap();
    assert_eq!(folder, into.join(sha256(b"bundle")).join("demo"));
    assert_eq!(fs::read_to_string(folder.join("metadata.yaml")).unwrap(), "a: 1");
    let mode = |path: &str| fs::metadata(folder.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("metadata.yaml"), mode("custom/x/run.sh")), (0o444, 0o555));

    fs::write(folder.join("left_by_user_code.txt"), "x").unwrap();
    blobs.materialise(&bundle, &into).await.unwrap();
    assert!(folder.join("left_by_user_code.txt").exists());

    let victim = folder.join("metadata.yaml");
    fs::remove_file(&victim).unwrap();
    fs::write(&victim, "a: 2").unwrap();
    blobs.materialise(&bundle, &into).await.unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "a: 1");
    fs::remove_file(&victim).unwrap();
    blobs.materialise(&bundle, &into).await.unwrap();
    assert_eq!(fs::read_dir(&into).unwrap().count(), 1, "nothing unfinished stays");
}

async fn lay_out(blobs: &Blobs, digest: &str, files: &[BundleFile], into: &Path) -> Result<PathBuf, Error> {
    blobs.materialise(&Bundle { digest, project_name: "demo", files }, into).await
}

#[tokio::test]
async fn a_corrupt_or_missing_file_lays_out_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, into) = (store(dir.path()), dir.path().join("bundles"));
    let mut files = stored_bundle(&blobs, &[("a.py", "good"), ("b.py", "soon bad")]).await;
    let digest = sha256(b"bundle");
    let stored = dir.path().join("blobs/files").join(&files[1].sha256[..2]).join(&files[1].sha256);
    fs::write(stored, "bad now!").unwrap();
    assert!(matches!(lay_out(&blobs, &digest, &files, &into).await, Err(Error::Corrupt { .. })));
    files[1].sha256 = sha256(b"never stored");
    assert!(matches!(lay_out(&blobs, &digest, &files, &into).await, Err(Error::NotFound { .. })));
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
}

#[tokio::test]
async fn no_path_escapes() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, into) = (store(dir.path()), dir.path().join("bundles"));
    let files = stored_bundle(&blobs, &[("a.py", "x")]).await;
    let digest = sha256(b"bundle");
    for path in ["../evil", "/evil", "a/../../evil", "", ".", "a//b", "a/", "a\\b", "a\0b"] {
        let files = [BundleFile { path: path.to_owned(), ..files[0].clone() }];
        let refused = blobs.materialise(&Bundle { digest: &digest, project_name: "demo", files: &files }, &into).await;
        assert!(matches!(refused, Err(Error::Path { .. })), "{path:?}");
    }
    for project_name in ["..", "", "a/b", "/x", "."] {
        let refused = blobs.materialise(&Bundle { digest: &digest, project_name, files: &files }, &into).await;
        assert!(matches!(refused, Err(Error::Path { .. })), "{project_name:?}");
    }
    let twice = [files[0].clone(), files[0].clone()];
    let refused = blobs.materialise(&Bundle { digest: &digest, project_name: "demo", files: &twice }, &into).await;
    assert!(matches!(refused, Err(Error::Path { reason: "is listed twice", .. })));
    assert!(!into.exists() && !dir.path().join("evil").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, into) = (store(dir.path()), dir.path().join("bundles"));
    let names: Vec<(String, String)> =
        (0..40).map(|n| (format!("d{}/f{n}.py", n % 5), format!("content {n}"))).collect();
    let names: Vec<(&str, &str)> = names.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    let files = stored_bundle(&blobs, &names).await;
    let digest = sha256(b"bundle");
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (blobs, into, files, digest) = (blobs.clone(), into.clone(), files.clone(), digest.clone());
            tokio::spawn(async move {
                let bundle = Bundle { digest: &digest, project_name: "demo", files: &files };
                blobs.materialise(&bundle, &into).await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(files_below(&task.await.unwrap()).len(), 40);
    }
    assert_eq!(fs::read_dir(&into).unwrap().count(), 1);
}

#[tokio::test]
async fn parts_belong_to_one_owner_and_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = store(dir.path());
    let (one, other) = ("0190a1b2-0000-7000-8000-000000000001", "0190a1b2-0000-7000-8000-000000000002");
    let digest = blobs.put_part(one, Bytes::from_static(b"weights")).await.unwrap();
    assert_eq!(digest, sha256(b"weights"));
    assert_eq!(blobs.put_part(one, Bytes::from_static(b"weights")).await.unwrap(), digest);
    assert_eq!(blobs.put_part(other, Bytes::from_static(b"weights")).await.unwrap(), digest);
    blobs.remove_parts(one).await.unwrap();
    blobs.remove_parts(one).await.unwrap();
    assert!(matches!(blobs.get_part(one, &digest).await, Err(Error::NotFound { .. })));
    assert_eq!(blobs.get_part(other, &digest).await.unwrap(), "weights");
    let file = files_below(dir.path()).into_iter().find(|path| path.ends_with(&digest)).unwrap();
    fs::write(dir.path().join(file), b"weightz").unwrap();
    assert!(matches!(blobs.get_part(other, &digest).await, Err(Error::Corrupt { .. })));
    for owner in ["", "../files", "a/b", &"x".repeat(65)] {
        assert!(blobs.put_part(owner, Bytes::new()).await.is_err(), "{owner}");
    }
}

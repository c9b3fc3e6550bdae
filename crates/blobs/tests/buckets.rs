//! Bundles and folders on real servers that speak S3 and Google's protocol, and what happens when a server is away or
//! refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is built from")]

use blobs::{Access, Amount, Blobs, Bundle, BundleFile, Error, Folders};
use bytes::Bytes;
use domain::ErrorKind;
use futures_util::{TryStreamExt, stream};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
};

const SEAL: &str = "manifest.json";

fn key() -> Option<(String, String, Option<String>)> {
    Some(("test".to_owned(), "test".to_owned(), None))
}

/// An address on each server, and what opens it.
async fn places() -> [(String, Access); 2] {
    let servers = tokio::task::spawn_blocking(|| (testkit::S3::bucket(), testkit::Google::bucket()));
    let (s3, google) = servers.await.unwrap();
    [
        (
            format!("s3://{}/some/prefix", s3.bucket),
            Access { aws_key: key(), aws_endpoint: Some(s3.endpoint), ..Access::default() },
        ),
        (
            format!("gs://{}/some/prefix/", google.bucket),
            Access { google_emulator: Some(google.host), ..Access::default() },
        ),
    ]
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_travels_by_a_bucket() {
    for (url, access) in places().await {
        let blobs = Blobs::open_with(&url, &access).unwrap();
        let (content, empty) = (b"a: 1".as_slice(), sha256(b""));
        let digest = sha256(content);
        for _ in 0..2 {
            blobs.put(&digest, 4, stream::iter([Ok(Bytes::from_static(b"a: 1"))])).await.unwrap();
            blobs.put(&empty, 0, stream::iter([])).await.unwrap();
        }
        assert_eq!(blobs.has_many(&[&digest, &sha256(b"none"), &empty]).await.unwrap(), [true, false, true], "{url}");
        let wrong = blobs.put(&sha256(b"right"), 5, stream::iter([Ok(Bytes::from_static(b"wrong"))])).await;
        assert!(matches!(wrong, Err(Error::Mismatch { .. })));
        let bundle = format!("sha256:{}", sha256(b"bundle"));
        blobs.put_manifest(&bundle, Bytes::from_static(b"first")).await.unwrap();
        blobs.put_manifest(&bundle, Bytes::from_static(b"second")).await.unwrap();
        assert_eq!(blobs.get_manifest(&bundle).await.unwrap(), "first", "{url}: a manifest stays as it was first");

        let dir = tempfile::tempdir().unwrap();
        let files = [BundleFile { path: "metadata.yaml".to_owned(), sha256: digest, executable: false }];
        let bundle = Bundle { digest: &bundle, project_name: "demo", files: &files };
        let folder = blobs.materialise(&bundle, dir.path()).await.unwrap();
        assert_eq!(fs::read(folder.join("metadata.yaml")).unwrap(), content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_goes_in_parts() {
    let [(url, access), _] = places().await;
    let blobs = Blobs::open_with(&url, &access).unwrap();
    let large = Bytes::from(vec![7; 20 << 20]);
    let digest = sha256(&large);
    blobs.put(&digest, large.len() as u64, stream::iter([Ok(large.clone())])).await.unwrap();
    let read = blobs.get(&digest).await.unwrap().try_fold(0, async |sum, chunk| Ok(sum + chunk.len())).await.unwrap();
    assert_eq!(read, large.len());
}

fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_counts_with_its_seal_and_goes_whole() {
    let disk = tempfile::tempdir().unwrap();
    let local = (format!("file://{}", disk.path().join("store").display()), Access::default());
    for (number, (url, access)) in places().await.into_iter().chain([local]).enumerate() {
        let folders = Folders::open(&url, &access).unwrap();
        let (from, into) = (disk.path().join(format!("from-{number}")), disk.path().join(format!("into-{number}")));
        let large = vec![5; 9 << 20];
        write(&from, &[("output_0/data.parquet", b"PAR1"), ("output_0/part_0/données %2f.json", b"{}")]);
        if url.starts_with("s3") {
            write(&from, &[("output_1/large.npy", &large)]);
        }
        let unfinished = folders.send(&from, "run/a%2fb/_/3", SEAL).await;
        assert!(unfinished.is_err_and(|error| error.to_string().contains(SEAL)), "{url}: nothing is sent unsealed");
        assert_eq!(folders.fetch("run/a%2fb/_/3", &into, SEAL).await.unwrap(), None);

        write(&from, &[(SEAL, b"{}")]);
        let sent = folders.send(&from, "run/a%2fb/_/3", SEAL).await.unwrap();
        assert_eq!(folders.fetch("run/a%2fb/_/3", &into, SEAL).await.unwrap(), Some(sent), "{url}");
        assert_eq!(fs::read(into.join("output_0/part_0/données %2f.json")).unwrap(), b"{}");
        assert_eq!(fs::read(into.join("output_1/large.npy")).ok().is_some_and(|c| c == large), url.starts_with("s3"));
        assert_eq!(folders.fetch("run/a%2fb/_/3", &into, SEAL).await.unwrap(), Some(sent), "{url}: twice is once");

        assert_eq!(folders.read("run/a%2fb/_/3", "output_0/data.parquet", 3).await.unwrap().unwrap(), "PAR");
        assert_eq!(folders.read("run/a%2fb/_/3", "none", 3).await.unwrap(), None);
        assert_eq!(folders.remove("another").await.unwrap(), Amount::default());
        assert_eq!(folders.remove("run").await.unwrap(), sent, "{url}");
        assert_eq!(folders.fetch("run/a%2fb/_/3", &disk.path().join("again"), SEAL).await.unwrap(), None);
        assert_eq!(folders.remove("run").await.unwrap(), Amount::default());
    }
    let names: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "nothing unfinished stays: {names:?}");
}

#[tokio::test]
async fn a_link_in_a_local_store_leads_nowhere() {
    let disk = tempfile::tempdir().unwrap();
    let root = disk.path().join("store");
    let folders = Folders::open(&format!("file://{}", root.display()), &Access::default()).unwrap();
    write(disk.path(), &[("token", b"secret"), ("store/mine/own.json", b"[]"), ("store/theirs/data.json", b"[1]")]);
    write(disk.path(), &[("store/mine/manifest.json", b"{}")]);
    symlink(disk.path().join("token"), root.join("mine/file.json")).unwrap();
    symlink(root.join("theirs"), root.join("mine/folder")).unwrap();
    assert_eq!(folders.read("mine", "own.json", 9).await.unwrap().unwrap(), "[]");
    for name in ["file.json", "folder/data.json"] {
        let refused = folders.read("mine", name, 9).await.unwrap_err();
        assert!(refused.to_string().contains("mine/"), "{refused}");
        assert!(folders.stream("mine", name).await.is_err(), "{name}");
    }
    assert!(folders.fetch("mine", &disk.path().join("into"), SEAL).await.is_err());
}

/// A server that answers every request with one status.
fn refusing(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The request is small; what it says does not matter.
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_and_one_that_refuses_are_told_apart() {
    let open = |endpoint: String| {
        let access = Access { aws_key: key(), aws_endpoint: Some(endpoint), ..Access::default() };
        Folders::open("s3://bucket/x", &access).unwrap()
    };
    let refused = open(refusing("403 Forbidden")).read("run", SEAL, 9).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition, "{refused}");
    assert!(refused.to_string().contains("s3://bucket/x/run/manifest.json"), "{refused}");
    let away = open("http://127.0.0.1:1".to_owned()).read("run", SEAL, 9).await.unwrap_err();
    assert_eq!(away.kind(), ErrorKind::Unavailable, "{away}");
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    for url in ["s3://", "bucket", "ftp://bucket/x", "s3://key:secret@bucket/x", "file://relative", "gs://b/../x"] {
        let refused = Blobs::open(url);
        assert!(matches!(refused, Err(Error::Url { .. })), "{url}: {refused:?}");
    }
    let secret = Access { aws_key: Some(("id".into(), "hidden".into(), Some("hidden".into()))), ..Access::default() };
    assert!(!format!("{secret:?}").contains("hidden"));
}

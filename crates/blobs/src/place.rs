//! From an address to a store: a folder of this machine, or a bucket of S3, of what speaks like it, or of Google.
//!
//! Refuses to know what is kept there.

use crate::Error;
use object_store::{
    ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
    aws::AmazonS3Builder,
    gcp::{GcpCredential, GoogleCloudStorageBuilder},
    local::LocalFileSystem,
    path::Path,
    prefix::PrefixStore,
};
use std::{env, fmt, path::PathBuf, sync::Arc, sync::Once, time::Duration};

/// For a connection; a server that is away is told from one that is slow.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one request, a part of 8 MiB over a slow line included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of one request after its first; with growing pauses.
const RETRIES_MAX: usize = 4;
/// After it no further try begins.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Where requests are signed for, unless told otherwise. Servers that are not Amazon's do not care.
const REGION: &str = "us-east-1";

/// Where buckets are and what opens them. Whatever is absent comes from this process's environment, under the names
/// that the providers' own tools use: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, ….
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Access {
    /// Amazon's key and its secret, and the token of a temporary one.
    pub aws_key: Option<(String, String, Option<String>)>,
    /// Amazon's region.
    pub aws_region: Option<String>,
    /// The URL of a server that speaks S3.
    pub aws_endpoint: Option<String>,
    /// The text of a Google service account's key file.
    pub google_key: Option<String>,
    /// The host or URL of a server that speaks Google's protocol and asks for no credential, as `STORAGE_EMULATOR_HOST`.
    pub google_emulator: Option<String>,
}

impl Access {
    /// Whether the credential for this address is given here, so that the environment's is not used.
    #[must_use]
    pub fn opens(&self, url: &str) -> bool {
        match url.split_once("://") {
            Some(("s3", _)) => self.aws_key.is_some(),
            Some(("gs", _)) => self.google_key.is_some(),
            _ => false,
        }
    }
}

impl fmt::Debug for Access {
    /// Says what is given, never what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("aws_key", &self.aws_key.is_some())
            .field("aws_region", &self.aws_region)
            .field("aws_endpoint", &self.aws_endpoint)
            .field("google_key", &self.google_key.is_some())
            .field("google_emulator", &self.google_emulator)
            .finish()
    }
}

/// Opens `file:///folder`, `s3://bucket/prefix` or `gs://bucket/prefix`. A folder is created; a bucket is not, and
/// nothing is asked of it yet.
pub(crate) fn open(url: &str, access: &Access) -> Result<Arc<dyn ObjectStore>, Error> {
    let refuse = |reason| Error::Url { url: url.to_owned(), reason };
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(refuse("has no scheme; write file:///folder, s3://bucket/prefix or gs://bucket/prefix"));
    };
    if scheme == "file" {
        return local(rest)
            .ok_or_else(|| refuse("must name an absolute folder, such as file:///var/lib/orrery/blobs"))?;
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || bucket.contains(['@', ':', '?', '#']) {
        return Err(refuse("must name a bucket, such as s3://bucket/prefix; credentials and endpoints are settings"));
    }
    let prefix = Path::parse(prefix.trim_matches('/')).map_err(|_| refuse("has a prefix that is no path"))?;
    cryptography();
    match scheme {
        "s3" => s3(bucket, access).map(|store| below(store, prefix)),
        "gs" | "gcs" => google(bucket, access).map(|store| below(store, prefix)),
        _ => return Err(refuse("is of no known kind; write file:///folder, s3://bucket/prefix or gs://bucket/prefix")),
    }
    .map_err(Error::Store)
}

/// None when the folder is not absolute.
fn local(folder: &str) -> Option<Result<Arc<dyn ObjectStore>, Error>> {
    let folder = PathBuf::from(folder);
    let open = || {
        std::fs::create_dir_all(&folder).map_err(|error| Error::disk(&folder, error))?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(Error::Store)?.with_fsync(true);
        Ok(Arc::new(store) as Arc<dyn ObjectStore>)
    };
    folder.is_absolute().then(open)
}

fn below(store: impl ObjectStore, prefix: Path) -> Arc<dyn ObjectStore> {
    if prefix.as_ref().is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) }
}

fn s3(bucket: &str, access: &Access) -> object_store::Result<impl ObjectStore + use<>> {
    let endpoint = access.aws_endpoint.clone().or_else(|| variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
    let region = access.aws_region.clone().or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
    // A key that is given stands alone: half of the environment's must not be mixed with it.
    let mut builder = match &access.aws_key {
        Some((key, secret, token)) => {
            let builder = AmazonS3Builder::new().with_access_key_id(key).with_secret_access_key(secret);
            token.iter().fold(builder, |builder, token| builder.with_token(token))
        }
        None => AmazonS3Builder::from_env(),
    };
    let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder
        .with_bucket_name(bucket)
        .with_region(region.unwrap_or_else(|| REGION.to_owned()))
        .with_client_options(client().with_allow_http(is_plain))
        .with_retry(retry())
        .build()
}

fn google(bucket: &str, access: &Access) -> object_store::Result<impl ObjectStore + use<>> {
    let builder = match &access.google_key {
        Some(key) => GoogleCloudStorageBuilder::new().with_service_account_key(key),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    // As in Google's own libraries: an emulator asks for no credential.
    if let Some(host) = access.google_emulator.clone().or_else(|| variable(&["STORAGE_EMULATOR_HOST"])) {
        let url = if host.contains("://") { host } else { format!("http://{host}") };
        let nothing = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        return GoogleCloudStorageBuilder::new()
            .with_base_url(url.trim_end_matches('/'))
            .with_credentials(Arc::new(nothing))
            .with_bucket_name(bucket)
            .with_client_options(client().with_allow_http(true))
            .with_retry(retry())
            .build();
    }
    builder.with_bucket_name(bucket).with_client_options(client()).with_retry(retry()).build()
}

fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

fn client() -> ClientOptions {
    ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT)
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

/// Once per process: a client that finds no implementation panics when it is made.
fn cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

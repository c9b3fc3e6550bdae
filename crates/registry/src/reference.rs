//! An image's name, taken apart as container runtimes do. Refuses to know whether there is one.

/// Where images without a registry's name are.
const USUAL_HOST: &str = "docker.io";
/// The address of that registry, which is not its name.
const USUAL_ADDRESS: &str = "registry-1.docker.io";
/// What images there are below when nobody says it.
const USUAL_FOLDER: &str = "library";

/// An image's name, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry.
    pub host: String,
    /// The image's path there.
    pub path: String,
    /// The tag; `latest` when none is named.
    pub tag: String,
    /// The content, when that is named.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a name; `None` for what is none.
    #[must_use]
    pub fn read(image: &str) -> Option<Self> {
        let (named, digest) = match image.split_once('@') {
            Some((named, digest)) => (named, Some(digest.to_owned())),
            None => (image, None),
        };
        let (host, rest) = match named.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (USUAL_HOST, named),
        };
        let (path, tag) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
        let part =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        // No step upwards, and nothing that an address gives a meaning of its own.
        if !path.split('/').all(|piece| part(piece) && piece != "." && piece != "..") || !part(tag) {
            return None;
        }
        let path =
            if host == USUAL_HOST && !path.contains('/') { format!("{USUAL_FOLDER}/{path}") } else { path.into() };
        Some(Self { host: host.to_owned(), path, tag: tag.to_owned(), digest })
    }
}

/// Where a registry is reached when nobody says it.
pub(crate) fn address(host: &str) -> &str {
    if host == USUAL_HOST { USUAL_ADDRESS } else { host }
}

/// Whether a text names content by SHA-256, the one kind that is in use.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_runtimes_do() {
        for (image, expected) in [
            ("python", Some(("docker.io", "library/python", "latest"))),
            ("jupyter/base-notebook:lab-4", Some(("docker.io", "jupyter/base-notebook", "lab-4"))),
            ("quay.io/lab/code:1", Some(("quay.io", "lab/code", "1"))),
            ("localhost:5000/lab", Some(("localhost:5000", "lab", "latest"))),
            ("quay.io/../x:1", None),
            ("quay.io/a?b:1", None),
            ("quay.io/a:", None),
        ] {
            let read = Reference::read(image);
            let parts = read.as_ref().map(|r| (r.host.as_str(), r.path.as_str(), r.tag.as_str()));
            assert_eq!(parts, expected, "{image}");
        }
        assert_eq!(Reference::read("a:1@sha256:ff").unwrap().digest.as_deref(), Some("sha256:ff"));
        assert!(is_digest(&format!("sha256:{}", "0a".repeat(32))) && !is_digest("sha256:0a") && !is_digest("md5:0a"));
    }
}

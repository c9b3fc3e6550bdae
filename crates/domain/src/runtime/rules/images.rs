//! Whether an entry of a project's list of images could ever be one. Refuses to know which images there are.

/// How a digest begins.
const ALGORITHM: &str = "sha256:";
/// Its hexadecimal digits.
const DIGITS: usize = 64;

/// Why an entry (a reference, a beginning ending in `*`, or one with a digest) is no image and none begins like it, with
/// what would be right; `None` where that could be.
#[must_use]
pub fn never_matches(entry: &str) -> Option<String> {
    let (text, is_beginning) = entry.strip_suffix('*').map_or((entry, false), |text| (text, true));
    if text.is_empty() && is_beginning {
        return None;
    }
    if text.chars().any(char::is_whitespace) {
        return Some("it has white space; write it without".to_owned());
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Some(format!("images have no scheme; write `{}`", &entry[scheme.len() + 3..]));
    }
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let of_digest = digest.and_then(|digest| wrong_digest(digest, is_beginning));
    of_digest.or_else(|| wrong_name(name, is_beginning && digest.is_none()))
}

fn wrong_digest(digest: &str, is_beginning: bool) -> Option<String> {
    let is_hex = |text: &str| text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let could_be = match digest.strip_prefix(ALGORITHM) {
        Some(digits) => is_hex(digits) && (digits.len() == DIGITS || (is_beginning && digits.len() < DIGITS)),
        None => is_beginning && ALGORITHM.starts_with(digest),
    };
    let right = || format!("after `@` write `{ALGORITHM}` and {DIGITS} hexadecimal digits in lower case");
    (!could_be).then(right)
}

fn wrong_name(name: &str, is_beginning: bool) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':');
    let (before, last) = name.rsplit_once('/').map_or((None, name), |(before, last)| (Some(before), last));
    let is_step = |step: &str| !step.is_empty() && step != "." && step != "..";
    let steps = before.is_none_or(|before| before.split('/').all(is_step)) && (is_beginning || is_step(last));
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_plain) || !steps {
        return Some("that is no reference of an image; write it as `registry.example/team/app:1`".to_owned());
    }
    let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
    if tag == Some("") && !is_beginning {
        return Some(format!("a tag follows the last `:`; write it, or `{}`", name.trim_end_matches(':')));
    }
    // A registry may have capitals, and so may what begins like one.
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let before = before.unwrap_or_default();
    let path = match before.split_once('/') {
        Some((first, path)) if is_host(first) => path,
        None if is_host(before) => "",
        _ => before,
    };
    // What follows the `:` may be the port of a registry.
    let is_port = |tag: &str| tag.bytes().all(|byte| byte.is_ascii_digit());
    let is_open = before.is_empty() && is_beginning && tag.is_none_or(is_port);
    let has_capitals = |text: &str| text.chars().any(|c| c.is_ascii_uppercase());
    let right = || "a repository has no capitals; write it in lower case, only a tag may have them".to_owned();
    (has_capitals(path) || (!is_open && has_capitals(last))).then(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_image_can_be_is_told_with_what_would_be_right() {
        let digest = format!("sha256:{}", "a".repeat(DIGITS));
        for good in [
            "*",
            "lab/*",
            "lab/jup*",
            "lab/jupyter:3",
            "lab/jupyter:RC1",
            "jupyter",
            "Registry.example:5000/lab/x:1",
            "Ghcr*",
            "Registry:50*",
            "localhost/x",
            "lab/x@*",
            "lab/x@sha256:ab*",
            &format!("lab/x@{digest}"),
            &format!("lab/x:1@{digest}"),
        ] {
            assert_eq!(never_matches(good), None, "{good}");
        }
        for (bad, right) in [
            ("lab/x ", "without"),
            ("lab /*", "without"),
            ("https://ghcr.io/lab/*", "`ghcr.io/lab/*`"),
            ("docker://lab/x", "`lab/x`"),
            ("Lab/x:1", "lower case"),
            ("lab/X*", "lower case"),
            ("ghcr.io/Lab/x", "lower case"),
            ("lab/x@sha256:abc", "64 hexadecimal digits"),
            ("lab/x@sha512:abc*", "64 hexadecimal digits"),
            (format!("lab/x@{digest}a").as_str(), "64 hexadecimal digits"),
            (format!("lab/x@{}", digest.replace('a', "A")).as_str(), "64 hexadecimal digits"),
            ("lab/x@", "64 hexadecimal digits"),
            ("lab//x", "write it as"),
            ("lab/../x*", "write it as"),
            ("/lab/x", "write it as"),
            ("lab/", "write it as"),
            ("lab/x;1", "write it as"),
            ("lab/x:", "`lab/x`"),
        ] {
            assert!(never_matches(bad).is_some_and(|why| why.contains(right)), "{bad}: {:?}", never_matches(bad));
        }
    }
}

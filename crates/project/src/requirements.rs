//! What packages a project asks for, as one digest that environments are cached by.
//!
//! Refuses to know how packages are installed.

use crate::{
    bundle,
    diagnostic::{Place, Report},
    files::{Folder, Refusal},
};
use std::collections::BTreeSet;

/// Size of one requirements file, bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Files that `-r` and `-c` lines may pull in.
const FILES_MAX: usize = 32;

/// The digest of `requirements.txt` and of what it includes; `None` when no package is named.
///
/// Comments, blank lines and trailing space do not count, so editing them rebuilds no environment.
pub(crate) fn digest(folder: &Folder, report: &mut Report) -> Option<String> {
    let mut lines = Vec::new();
    collect(folder, "requirements.txt", &mut BTreeSet::new(), &mut lines, report);
    (!lines.is_empty()).then(|| bundle::sha256_hex(lines.join("\n").as_bytes()))
}

fn collect(folder: &Folder, file: &str, seen: &mut BTreeSet<String>, lines: &mut Vec<String>, report: &mut Report) {
    if seen.len() >= FILES_MAX || !seen.insert(file.to_owned()) {
        return;
    }
    let text = match folder.read(file, BYTES_MAX) {
        Ok(text) => text,
        Err(Refusal::Absent) if seen.len() == 1 => return,
        Err(refusal) => {
            report.error(Place::file(), format!("{file} {refusal}"), refusal.remedy());
            return;
        }
    };
    for line in text.lines().map(without_comment).filter(|line| !line.is_empty()) {
        lines.push(line.to_owned());
        if let Some(included) = included(line) {
            let parent = file.rsplit_once('/').map_or(String::new(), |(parent, _)| format!("{parent}/"));
            collect(folder, &format!("{parent}{included}"), seen, lines, report);
        }
    }
}

fn without_comment(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(before, _)| before).trim_end()
}

fn included(line: &str) -> Option<&str> {
    let rest = ["--requirement", "--constraint", "-r", "-c"].iter().find_map(|option| line.strip_prefix(option))?;
    Some(rest.trim_start_matches(['=', ' ', '\t'])).filter(|path| !path.is_empty() && !path.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn comments_do_not_count_and_included_files_do() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let digest = || {
            let mut report = Report::new("requirements.txt", "");
            (digest(&folder, &mut report), report.errors())
        };
        assert_eq!(digest(), (None, 0));
        fs::write(root.path().join("requirements.txt"), "\n# nothing\n").unwrap();
        assert_eq!(digest(), (None, 0));
        fs::write(root.path().join("requirements.txt"), "pandas==2.2\n-r more.txt\n").unwrap();
        fs::write(root.path().join("more.txt"), "rich # pretty\n").unwrap();
        let first = digest();
        fs::write(root.path().join("requirements.txt"), "# why\npandas==2.2  # frames\n\n-r more.txt").unwrap();
        assert_eq!(digest(), first);
        fs::write(root.path().join("more.txt"), "rich<14").unwrap();
        assert_ne!(digest(), first);
        fs::write(root.path().join("requirements.txt"), "-r ../outside.txt").unwrap();
        assert_eq!(digest().1, 1);
    }
}

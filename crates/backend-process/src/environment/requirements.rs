//! The text of a requirements.txt, as far as it matters here: which lines count, and which package a line is about.

/// Without comments and blank lines: they make no difference, so they make no environment.
pub(super) fn significant(text: &str) -> String {
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// The base packages that the project does not ask for itself, then the project's own lines: its versions win.
pub(super) fn merged(base: &str, project: &str) -> String {
    let own: Vec<String> = project.lines().filter_map(package).collect();
    let base = significant(base);
    let kept = base.lines().filter(|line| package(line).is_none_or(|name| !own.contains(&name)));
    let mut all: Vec<&str> = kept.chain(project.lines()).collect();
    all.push("");
    all.join("\n")
}

/// `sklearn` is a name that the index refuses on purpose, and that older projects still ask for: it stands for
/// scikit-learn, as its own message says.
pub(super) fn renamed(project: &str) -> String {
    let line = |line: &str| match line.strip_prefix("sklearn") {
        Some(rest) if package(line).as_deref() == Some("sklearn") => format!("scikit-learn{rest}"),
        _ => line.to_owned(),
    };
    project.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The line whose package an installer's complaint is about.
pub(super) fn blamed<'a>(requirements: &'a str, said: &str) -> Option<&'a str> {
    let said = said.to_lowercase().replace(['_', '.'], "-");
    // The last one that is named: installers end with what broke them.
    let places = requirements.lines().filter_map(|line| Some((mention(&said, &package(line)?)?, line)));
    places.max_by_key(|(at, _)| *at).map(|(_, line)| line)
}

/// Where a name stands by itself.
fn mention(said: &str, name: &str) -> Option<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
    let found = said.rmatch_indices(name).map(|(at, _)| at);
    let mut alone =
        found.filter(|at| !part(said[..*at].chars().next_back()) && !part(said[at + name.len()..].chars().next()));
    alone.next()
}

/// The normalised name of the package that a line asks for; none for options and plain addresses.
fn package(line: &str) -> Option<String> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(line.len());
    let name = line[..end].to_lowercase().replace(['_', '.'], "-");
    let is_address = line[end..].starts_with(':') || line[end..].starts_with('/');
    (!name.is_empty() && !name.starts_with('-') && !is_address).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_make_no_environment() {
        assert_eq!(significant("# only a comment\n\n  \n"), "");
        assert_eq!(significant("pandas==2 # pinned\n"), "pandas==2");
    }

    #[test]
    fn the_projects_versions_win() {
        let base = "pandas>=2\npyarrow>=14 # files\nPyYAML>=6\n";
        assert_eq!(merged(base, "Pandas==1.5.3\npyyaml\n-e ./lib"), "pyarrow>=14\nPandas==1.5.3\npyyaml\n-e ./lib\n");
        assert_eq!(merged(base, ""), "pandas>=2\npyarrow>=14\nPyYAML>=6\n");
    }

    #[test]
    fn a_refused_name_becomes_the_package_that_it_stands_for() {
        assert_eq!(renamed("sklearn\nsklearn-crfsuite\nsklearn>=1"), "scikit-learn\nsklearn-crfsuite\nscikit-learn>=1");
    }

    #[test]
    fn the_line_that_broke_the_installer_is_named() {
        let lines = "pandas>=2\nno_such.package==9\nrequests[socks]>=2";
        let said = "ERROR: No matching distribution found for no-such-package==9";
        assert_eq!(blamed(lines, said), Some("no_such.package==9"));
        assert_eq!(blamed(lines, "could not resolve pandas-stubs"), None);
        assert_eq!(blamed("https://example.org/a.whl\n-r more.txt", "https broke more"), None);
    }
}

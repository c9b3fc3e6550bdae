//! A DAG as a tree: every block once, below the deepest of its upstream blocks.

use std::collections::HashMap;

/// One line: what is drawn before the name, the block, and the upstream blocks that the drawing does not show.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) prefix: String,
    pub(crate) name: String,
    pub(crate) also_after: Vec<String>,
}

/// The lines of the tree. Blocks keep their order among their siblings; what lies on a cycle or below an unknown block
/// becomes a root rather than disappear.
pub(crate) fn lines(blocks: &[(String, Vec<String>)]) -> Vec<Line> {
    let known: HashMap<&str, &[String]> = blocks.iter().map(|(n, u)| (n.as_str(), u.as_slice())).collect();
    let depths = depths(blocks);
    let parent = |name: &str| -> Option<&str> {
        let upstream = known.get(name)?.iter().filter(|u| known.contains_key(u.as_str()) && u.as_str() != name);
        let deepest = upstream.max_by_key(|u| depths[u.as_str()])?;
        (depths[deepest.as_str()] < depths[name]).then_some(deepest.as_str())
    };
    let mut children: HashMap<Option<&str>, Vec<&str>> = HashMap::new();
    for (name, _) in blocks {
        children.entry(parent(name)).or_default().push(name);
    }
    let mut lines = Vec::new();
    // The stack holds what is still to draw, next one last: chains of thousands of blocks must not recurse.
    let roots = children.get(&None).cloned().unwrap_or_default();
    let mut stack: Vec<(String, String, &str)> =
        roots.into_iter().rev().map(|r| (String::new(), String::new(), r)).collect();
    while let Some((prefix, below, name)) = stack.pop() {
        let own = parent(name);
        let also_after = known[name].iter().filter(|u| Some(u.as_str()) != own).cloned().collect();
        lines.push(Line { prefix, name: name.to_owned(), also_after });
        let kids = children.get(&Some(name)).map(Vec::as_slice).unwrap_or_default();
        for (index, kid) in kids.iter().enumerate().rev() {
            let last = index + 1 == kids.len();
            let (branch, rest) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            stack.push((format!("{below}{branch}"), format!("{below}{rest}"), kid));
        }
    }
    lines
}

/// The longest way from a root; blocks on a cycle stay at 0.
fn depths(blocks: &[(String, Vec<String>)]) -> HashMap<&str, usize> {
    let mut waits: HashMap<&str, usize> = blocks.iter().map(|(n, _)| (n.as_str(), 0)).collect();
    let mut after: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, upstream) in blocks {
        for u in upstream.iter().filter(|u| waits.contains_key(u.as_str())) {
            after.entry(u).or_default().push(name);
        }
    }
    for targets in after.values() {
        for target in targets {
            if let Some(count) = waits.get_mut(target) {
                *count += 1;
            }
        }
    }
    let mut depths: HashMap<&str, usize> = blocks.iter().map(|(n, _)| (n.as_str(), 0)).collect();
    let mut ready: Vec<&str> = blocks.iter().map(|(n, _)| n.as_str()).filter(|n| waits[n] == 0).collect();
    while let Some(name) = ready.pop() {
        let depth = depths[name] + 1;
        for target in after.get(name).map(Vec::as_slice).unwrap_or_default() {
            if let Some(known) = depths.get_mut(target) {
                *known = depth.max(*known);
            }
            if let Some(count) = waits.get_mut(target) {
                *count -= 1;
                if *count == 0 {
                    ready.push(target);
                }
            }
        }
    }
    // Whoever still waits lies on a cycle or behind one.
    for (name, count) in waits {
        if count > 0 {
            depths.insert(name, 0);
        }
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(blocks: &[(&str, &[&str])]) -> String {
        let blocks: Vec<_> =
            blocks.iter().map(|(n, u)| ((*n).to_owned(), u.iter().map(|u| (*u).to_owned()).collect())).collect();
        let line = |l: Line| {
            let more = if l.also_after.is_empty() { String::new() } else { format!(" +{}", l.also_after.join(",")) };
            format!("{}{}{more}", l.prefix, l.name)
        };
        lines(&blocks).into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_diamond_shows_every_block_once() {
        let text = drawn(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"]), ("e", &[])]);
        assert_eq!(text, "a\n├─ b\n└─ c\n   └─ d +b\ne");
    }

    #[test]
    fn what_is_broken_is_still_shown() {
        assert_eq!(
            drawn(&[("a", &["b"]), ("b", &["a"]), ("c", &["gone"]), ("d", &["d"])]),
            "a +b\nb +a\nc +gone\nd +d"
        );
    }
}

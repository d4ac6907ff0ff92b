//! Which file of a crate uses which other, read from its sources: `use` declarations and
//! paths in the code, as far as they begin with `crate`, `self`, `super` or a child module.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path from the root of its crate: `["postgres", "queue"]`.
pub type Module = Vec<String>;

/// The files of one crate, and for each those that it uses.
#[derive(Debug, Default)]
pub struct Graph {
    pub files: BTreeMap<Module, String>,
    pub uses: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    /// `sources` are paths from the crate's `src`, and texts without comments.
    pub fn new<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let sources: Vec<(Module, &str, &str)> = sources.into_iter().map(|(path, text)| (module(path), path, text)).collect();
        let files: BTreeMap<Module, String> = sources.iter().map(|(module, path, _)| (module.clone(), (*path).to_owned())).collect();
        let uses = sources
            .iter()
            .map(|(module, _, text)| {
                let found = paths(text).into_iter().filter_map(|path| resolve(&files, module, &path));
                (module.clone(), found.filter(|used| used != module).collect())
            })
            .collect();
        Self { files, uses }
    }

    /// Files that use each other, directly or through others; each circle once, its files sorted.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let reached: BTreeMap<&Module, BTreeSet<&Module>> = self.files.keys().map(|module| (module, self.reached(module))).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for (module, targets) in &reached {
            let circle: BTreeSet<&Module> =
                targets.iter().copied().filter(|target| reached.get(target).is_some_and(|back| back.contains(*module))).collect();
            if !circle.is_empty() && seen.insert(circle.clone()) {
                circles.push(circle.into_iter().filter_map(|module| self.files.get(module)).map(String::as_str).collect());
            }
        }
        circles
    }

    /// All that `module` uses, directly or through others.
    fn reached(&self, module: &Module) -> BTreeSet<&Module> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&Module> = self.uses.get(module).into_iter().flatten().collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(self.uses.get(next).into_iter().flatten());
            }
        }
        reached
    }
}

/// `a/mod.rs` and `a.rs` are both the module `a`; `lib.rs` and `main.rs` are the root.
fn module(path: &str) -> Module {
    let mut parts: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The file that a path leads to: the longest part of it that is one. The root does not count:
/// what it has beside modules is for nobody in the crate.
fn resolve(files: &BTreeMap<Module, String>, from: &Module, path: &[String]) -> Option<Module> {
    let mut place = from.clone();
    let mut rest = path.iter().peekable();
    match rest.peek().map(|first| first.as_str()) {
        Some("crate") => {
            rest.next();
            place.clear();
        }
        Some("self") => drop(rest.next()),
        Some("super") => {
            while rest.next_if(|part| *part == "super").is_some() {
                place.pop()?;
            }
        }
        // A child of this module, or else a name from outside the crate.
        Some(child) => {
            let child = [place.as_slice(), &[child.to_owned()]].concat();
            files.contains_key(&child).then_some(())?;
        }
        None => return None,
    }
    for part in rest {
        let next = [place.as_slice(), std::slice::from_ref(part)].concat();
        if !files.contains_key(&next) {
            break;
        }
        place = next;
    }
    (!place.is_empty()).then_some(place)
}

/// All paths of at least two parts in the text; `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(text: &str) -> Vec<Vec<String>> {
    // A test module at the end of a file may look at all that is around it.
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        if is_name(first) && !is_name(before) && before != ':' {
            let (mut tree, after) = tree(rest);
            tree.retain(|path| path.len() > 1);
            found.append(&mut tree);
            let taken = rest.len() - after.len();
            before = rest[..taken].chars().last().unwrap_or(first);
            rest = after;
        } else {
            before = first;
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths of the tree that begins here, and what follows it.
fn tree(text: &str) -> (Vec<Vec<String>>, &str) {
    let end = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let head = vec![name.to_owned()];
    let Some(after) = rest.trim_start().strip_prefix("::") else { return (vec![head], rest) };
    let after = after.trim_start();
    let with_head = |paths: Vec<Vec<String>>| paths.into_iter().map(|path| [head.as_slice(), &path].concat()).collect();
    if let Some(mut list) = after.strip_prefix('{') {
        let mut paths = Vec::new();
        loop {
            list = list.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            match list.chars().next() {
                Some(c) if is_name(c) => {
                    let (mut found, after) = tree(list);
                    paths.append(&mut found);
                    list = renamed(after);
                }
                Some('}') => return (with_head(paths), &list[1..]),
                Some(c) => list = &list[c.len_utf8()..],
                None => return (with_head(paths), list),
            }
        }
    }
    if after.starts_with(is_name) {
        let (paths, after) = tree(after);
        rest = after;
        return (with_head(paths), rest);
    }
    (vec![head], rest)
}

/// Leaves out ` as name`.
fn renamed(text: &str) -> &str {
    let name = text.trim_start().strip_prefix("as ");
    name.map_or(text, |name| name.trim_start().trim_start_matches(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(sources: &[(&str, &str)]) -> Vec<Vec<String>> {
        let graph = Graph::new(sources.iter().copied());
        graph.circles().into_iter().map(|circle| circle.into_iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        for (one, two) in [
            ("use crate::b::B;", "use crate::a::A;"),
            ("use crate::{\n    b::{self, B},\n    c,\n};", "fn f() { crate::a::g() }"),
            ("fn f() -> super::b::B {}", "use super::{a};"),
        ] {
            assert_eq!(circles(&[("a.rs", one), ("b.rs", two), ("c.rs", "")]), [["a.rs", "b.rs"]], "{one} {two}");
        }
        assert_eq!(circles(&[("a/mod.rs", "mod b;\nfn f() { b::g() }"), ("a/b.rs", "use super::A;")]), [["a/mod.rs", "a/b.rs"]]);
        assert_eq!(circles(&[("a.rs", "use crate::b::X;"), ("b.rs", "use crate::c::X;"), ("c.rs", "use crate::a::X;")]).len(), 1);
    }

    #[test]
    fn what_is_no_circle_is_not_found() {
        assert!(
            circles(&[("a.rs", "use crate::b::B;"), ("b.rs", "use b::a::A; use x_crate::a::A;"), ("lib.rs", "pub use a::A;")]).is_empty()
        );
        assert!(circles(&[("a/mod.rs", "mod b;\npub struct A;"), ("a/b.rs", "use super::A;")]).is_empty());
        assert!(circles(&[("a/mod.rs", "mod b;\nuse b::B;"), ("a/b.rs", "use super::{c as d, c as _};"), ("a/c.rs", "")]).is_empty());
        assert!(circles(&[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}")]).is_empty());
    }
}

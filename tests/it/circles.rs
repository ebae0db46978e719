//! Files, and rooms of files, that name each other's things in a circle can only be read all at once: there are none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use crate::documents::{read, sources};

/// A crate as its modules hand names to each other; a module is the file of its items.
struct Library {
    modules: BTreeMap<String, Module>,
}

#[derive(Default)]
struct Module {
    file: String,
    /// The code without tests, comments and what it imports.
    code: String,
    defined: BTreeSet<String>,
    /// Modules below that only tests have.
    tests: Vec<String>,
    /// What a name stands for that the module imports: a path from the root of the crate.
    imported: BTreeMap<String, String>,
}

impl Library {
    fn read(folder: &str) -> Self {
        let mut modules = BTreeMap::new();
        for file in sources(folder) {
            // Tests may use everything.
            if file.contains("/tests") {
                continue;
            }
            let path = file.strip_prefix(folder).unwrap().trim_start_matches('/').trim_end_matches(".rs");
            let path = path.trim_end_matches("mod").trim_end_matches('/').replace('/', "::");
            let path = if path == "lib" || path == "main" { String::new() } else { path };
            modules.insert(path.clone(), Module::read(&read(&file), file, &path));
        }
        let tests: Vec<String> = modules.values().flat_map(|module| module.tests.clone()).collect();
        modules.retain(|path, _| !tests.contains(path));
        Self { modules }
    }

    /// The file that defines what a path from the root of the crate names; nothing if that is another crate's.
    fn file(&self, path: &str) -> Option<&str> {
        let (mut at, mut steps) = (String::new(), path.split("::").peekable());
        while let Some(name) = steps.next() {
            let child = join(&at, name);
            if self.modules.contains_key(&child) {
                at = child;
                continue;
            }
            let module = &self.modules[&at];
            // `use image::ImageError` beside a use of the crate `image` leads back here.
            if let Some(elsewhere) = module.imported.get(name).filter(|path| !path.starts_with(&child)) {
                let rest: Vec<&str> = steps.collect();
                return self.file(&rest.iter().fold(elsewhere.clone(), |path, name| join(&path, name)));
            }
            return module.defined.contains(name).then_some(&module.file);
        }
        // A module by itself: what is taken of it, its user writes behind its name.
        None
    }

    /// The files that each file names things of.
    fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut arrows = BTreeMap::new();
        for (path, module) in &self.modules {
            let mut to = BTreeSet::new();
            for name in paths(&module.code) {
                let first = name.split("::").next().unwrap();
                let whole = match module.imported.get(first) {
                    Some(import) => format!("{import}{}", &name[first.len()..]),
                    None if ["crate", "super", "self"].contains(&first) => absolute(path, &name),
                    None => join(path, &name),
                };
                to.extend(self.file(&whole).filter(|file| *file != module.file && !encloses(file, &module.file)));
            }
            arrows.insert(module.file.as_str(), to);
        }
        arrows
    }
}

impl Module {
    fn read(text: &str, file: String, path: &str) -> Self {
        let mut module = Self { file, ..Self::default() };
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap());
        let mut lines = lines.peekable();
        while let Some(line) = lines.next() {
            let item =
                line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(")?.split_once(") ").map(|(_, item)| item));
            let item = item.unwrap_or(line);
            if let Some(start) = item.strip_prefix("use ") {
                let mut import = start.to_owned();
                while !import.contains(';') {
                    import.push_str(lines.next().unwrap().trim());
                }
                for (name, import) in imports(import.split(';').next().unwrap()) {
                    // In the editions since 2018 a path starts at a name in scope or at a crate.
                    module.imported.insert(name, absolute(path, &import));
                }
                continue;
            }
            if line == "#[cfg(test)]" {
                let child = lines.peek().and_then(|line| line.rsplit_once("mod ")?.1.strip_suffix(';'));
                module.tests.extend(child.map(|name| join(path, name)));
            }
            let words = item.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            let mut words = words.skip_while(|word| ["unsafe", "async"].contains(word));
            let kind = words.next().unwrap_or_default();
            let named = ["fn", "struct", "enum", "trait", "type", "const", "static", "macro_rules"].contains(&kind);
            if named {
                let name = words.find(|word| !["fn", "mut"].contains(word)).unwrap_or_default();
                module.defined.insert(name.to_owned());
            }
            module.code.push_str(line);
            module.code.push('\n');
        }
        module
    }
}

/// Whether a file is that of a module which another lies in: whoever reads the inner one has come through it.
fn encloses(outer: &str, inner: &str) -> bool {
    let folder = outer.trim_end_matches(".rs");
    let folder = ["/mod", "/lib", "/main"].iter().find_map(|face| folder.strip_suffix(face)).unwrap_or(folder);
    inner.starts_with(&format!("{folder}/"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") }
}

/// A path as it stands in a module, from the root of the crate.
fn absolute(module: &str, path: &str) -> String {
    let mut at = module.to_owned();
    let mut rest = path;
    loop {
        let (first, behind) = rest.split_once("::").unwrap_or((rest, ""));
        match first {
            "crate" => at.clear(),
            "super" => at.truncate(at.rfind("::").unwrap_or(0)),
            "self" => {}
            _ => return if rest.is_empty() { at } else { join(&at, rest) },
        }
        rest = behind;
    }
}

/// The names that a `use` brings, with the path of each.
fn imports(tree: &str) -> Vec<(String, String)> {
    let tree = tree.trim();
    let Some((prefix, list)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or_else(|| (tree, tree.rsplit("::").next().unwrap()));
        return vec![(name.trim().to_owned(), path.trim().to_owned())];
    };
    let list = list.strip_suffix('}').unwrap_or(list);
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (place, letter) in list.char_indices().chain([(list.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(list[start..place].trim());
                start = place + 1;
            }
            _ => {}
        }
    }
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts
        .flat_map(|part| match part {
            "self" => imports(prefix.trim_end_matches("::")),
            part => imports(&format!("{prefix}{part}")),
        })
        .collect()
}

/// All names and paths in some code.
fn paths(code: &str) -> BTreeSet<String> {
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let words = words.map(|word| word.trim_matches(':')).filter(|word| !word.is_empty());
    words.map(String::from).collect()
}

/// Each two of some things that lead to each other, by however many arrows.
fn circles<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<BTreeSet<&'a str>> {
    let reached = |from: &'a str| {
        let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(at) = left.pop() {
            left.extend(arrows.get(at).into_iter().flatten().filter(|to| reached.insert(**to)));
        }
        reached
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|from| (*from, reached(from))).collect();
    let back = |from: &&str| {
        reach[from].iter().copied().filter(|to| reach.get(to).is_some_and(|it| it.contains(from))).collect()
    };
    reach.keys().map(back).filter(|circle: &BTreeSet<&str>| circle.len() > 1).collect()
}

/// What holds a file in a folder: the file itself, or the folder below that it lies in.
fn room<'a>(file: &'a str, folder: &str) -> Option<&'a str> {
    let end = |name: &str| name.find(['/', '.']).unwrap_or(name.len());
    let name = file.strip_prefix(folder)?.strip_prefix('/')?;
    Some(&file[..folder.len() + 1 + end(name)])
}

/// Arrows between what holds the files in a folder.
fn between_rooms<'a>(
    files: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    folder: &str,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut rooms: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in files {
        let Some(from) = room(from, folder) else { continue };
        let to = to.iter().filter_map(|to| room(to, folder)).filter(|to| *to != from);
        rooms.entry(from).or_default().extend(to);
    }
    rooms
}

#[test]
fn no_files_or_folders_name_each_other_in_a_circle() {
    let (mut count, mut found) = (0, vec![]);
    for library in ["mixflow-schedules", "mixflow-backbones", "mixflow", "mixflow-t2i", "mixflow-hub", "xtask"] {
        let library = Library::read(&format!("{library}/src"));
        let files = library.arrows();
        count += files.values().map(BTreeSet::len).sum::<usize>();
        let folders: BTreeSet<&str> = files.keys().map(|file| file.rsplit_once('/').unwrap().0).collect();
        // A circle of files is one of rooms in the folder that holds all of it.
        for arrows in folders.into_iter().map(|folder| between_rooms(&files, folder)) {
            for circle in circles(&arrows) {
                let arrow =
                    |from: &&str| format!("{from} -> {:?}", arrows[*from].intersection(&circle).collect::<Vec<_>>());
                found.push(circle.iter().map(arrow).collect::<Vec<_>>().join("\n  "));
            }
        }
    }
    assert!(found.is_empty(), "circles:\n\n  {}", found.join("\n\n  "));
    assert!(count > 1500, "{count}");
}

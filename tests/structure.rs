//! What keeps the source in shape without a reviewer: who imports whom, how large files are, how they begin, and that
//! the documents speak of what exists. Looks at text only; starts nothing but the daemon's own check of README's settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Top-level modules and what they may import. `shared`, `server`, `upstream`, `session` and `worker` serve clients
/// together and know each other.
const IMPORTS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("tls", &["config"]),
    ("net", &["tls"]),
    ("resp", &["command"]),
    ("command", &["resp"]),
    ("config", &["command"]),
    ("logging", &["config"]),
    ("rules", &["config"]),
    ("metrics", &["clock", "command"]),
    ("cache", &["clock"]),
    ("memory", &["command", "resp"]),
    ("state", &["command", "config", "resp"]),
    ("client", &["config", "resp", "state"]),
    (
        "shared",
        &[
            "cache", "clock", "command", "config", "memory", "metrics", "resp", "rules", "server", "state",
            "tls", "upstream", "worker",
        ],
    ),
    ("server", &["net", "shared"]),
    (
        "upstream",
        &["cache", "clock", "command", "config", "net", "resp", "session", "shared", "tls", "worker"],
    ),
    (
        "session",
        &[
            "cache", "clock", "command", "config", "memory", "net", "resp", "rules", "server", "shared",
            "state", "upstream", "worker",
        ],
    ),
    (
        "worker",
        &[
            "cache", "clock", "command", "config", "memory", "metrics", "net", "resp", "session", "shared",
            "state", "upstream",
        ],
    ),
    ("l2", &["clock", "command", "config", "shared", "state", "tls"]),
    ("admin", &["app", "cache", "clock", "command", "config", "metrics", "server", "shared"]),
    (
        "app",
        &[
            "admin", "command", "config", "l2", "logging", "memory", "rules", "server", "shared", "tls",
            "worker",
        ],
    ),
    ("main", &["app", "command", "config", "logging", "tls"]),
    ("lib", &[]),
];

const LINES_MAX: usize = 500;
/// Longer files, and why.
const LONG_FILES: &[(&str, &str)] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below these directories, by path from the root.
fn rust_files(directories: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = directories.iter().map(|directory| root().join(directory)).collect();
    while let Some(directory) = left.pop() {
        for entry in directory.read_dir().unwrap_or_else(|e| panic!("{directory:?}: {e}")) {
            let path = entry.unwrap().path();
            if path.is_dir()
                && !path.file_name().is_some_and(|name| name == ".cache" || name == "node_modules")
            {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_string();
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// `src/cache/entry.rs` -> `cache`.
fn module_of(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap();
    inner.split_once('/').map_or_else(|| inner.trim_end_matches(".rs"), |(module, _)| module)
}

/// What stands behind each `marker`, as far as it is a path: `cache::Entry`.
fn paths_behind<'a>(text: &'a str, marker: &'a str) -> impl Iterator<Item = &'a str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(move |line| line.split(marker).skip(1)).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut seen = BTreeSet::new();
    for (path, text) in rust_files(&["src"]) {
        let module = module_of(&path);
        let (_, allowed) =
            IMPORTS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no row"));
        let marker = if module == "main" { "madcache::" } else { "crate::" };
        for import in paths_behind(&text, marker) {
            let to = import.split("::").next().unwrap();
            assert!(
                !to.is_empty(),
                "{path} imports several modules in one line: one `use` each, for this test"
            );
            assert!(to == module || allowed.contains(&to), "{path} imports {to}");
            assert!(
                module != "resp" || to != "command" || import == "command::Shape",
                "{path} imports {import}: the wire knows nothing of commands but their `Shape`"
            );
            seen.insert((module.to_string(), to.to_string()));
        }
    }
    for (module, allowed) in IMPORTS {
        for to in *allowed {
            assert!(
                seen.contains(&(module.to_string(), to.to_string())),
                "{module} does not import {to} any more"
            );
        }
    }
}

#[test]
fn the_redis_crate_is_used_in_one_module() {
    for (path, text) in rust_files(&["src"]) {
        // `client` runs in other programs, which cache nothing: the order of pushes is nothing to it.
        assert!(
            ["l2", "client"].contains(&module_of(&path)) || !text.contains("redis::"),
            "{path}: it reorders pushes, see ARCHITECTURE.md"
        );
    }
}

#[test]
fn files_are_short_and_say_first_what_they_own() {
    for (path, text) in rust_files(&["src", "tests", "benches"]) {
        assert!(text.starts_with("//! "), "{path} does not open with //!");
        let lines = text.lines().count();
        let reason = LONG_FILES.iter().find(|(long, _)| *long == path);
        assert!(lines <= LINES_MAX || reason.is_some(), "{path} has {lines} lines");
        assert!(lines > LINES_MAX || reason.is_none(), "{path} is short again: take it off the list");
    }
}

#[test]
fn there_is_no_unsafe_and_outside_tests_no_unwrap() {
    for root_file in ["src/lib.rs", "src/main.rs"] {
        let text = std::fs::read_to_string(root().join(root_file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{root_file}");
    }
    let is_test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    for (path, text) in rust_files(&["src"]).iter().filter(|(path, _)| !is_test(path)) {
        let served = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        assert!(!served.contains(".unwrap()"), "{path}: `expect` says which invariant holds");
    }
}

#[test]
fn names_of_tests_are_sentences() {
    for (path, text) in rust_files(&["src", "tests"]) {
        let tests =
            text.split("#[test]\n").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split('(').next());
        for name in tests {
            assert!(name.matches('_').count() >= 2, "{path}: {name} says too little");
        }
    }
}

/// What stands between backticks, or behind a link's bracket, and looks like a path.
fn paths_in(document: &str) -> Vec<String> {
    let prose: String = document.split("```").step_by(2).collect();
    let spans = prose
        .split('`')
        .skip(1)
        .step_by(2)
        .chain(prose.split("](").skip(1).filter_map(|l| l.split(')').next()));
    let is_path = |span: &&str| {
        let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let known = ["src/", "tests/", "benches/", "conf/"].iter().any(|start| span.starts_with(start));
        plain && (known || [".rs", ".md", ".toml"].iter().any(|end| span.ends_with(end)))
    };
    spans.filter(is_path).map(str::to_string).collect()
}

#[test]
fn the_documents_name_only_files_that_exist() {
    let documents =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "tests/README.md", "benches/README.md"];
    for document in documents {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for path in paths_in(&text) {
            let bases = ["", "src", "tests", "benches/compare.d"];
            let exists = bases.iter().any(|base| root().join(base).join(&path).exists());
            assert!(exists, "{document} names {path}, which does not exist");
        }
    }
}

#[test]
fn the_code_map_has_every_module() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (module, _) in IMPORTS.iter().filter(|(module, _)| *module != "lib") {
        assert!(
            map.contains(&format!("`src/{module}.rs`")),
            "ARCHITECTURE.md does not say what {module} owns"
        );
    }
}

#[test]
fn the_daemon_takes_the_settings_of_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let settings = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("madcache.toml");
    std::fs::write(&file, settings).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_madcache"));
    let others = std::env::vars().map(|(name, _)| name);
    for name in others.filter(|name| name.starts_with("MADCACHE_") || name == "REDIS_URL") {
        check.env_remove(name);
    }
    let output = check.args(["--check-config", "--config"]).arg(&file).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "configuration ok\n", "{output:?}");
}

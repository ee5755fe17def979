//! The command line from outside: what it prints, where, and its exit code; and conf/ against the declaration.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use madcache::config::{Config, Flags, Source, document};

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")
}

/// Runs the binary with exactly this environment.
fn madcache(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_madcache"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const URL: (&str, &str) = ("REDIS_URL", "redis://:hunter2@127.0.0.1:6379");

/// `--check-config` with these variables fails with one line; gives it.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let arguments: Vec<&str> = ["--check-config"].iter().chain(arguments).copied().collect();
    let output = madcache(&arguments, variables);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty());
    assert!(text.starts_with("madcache: ") && text.lines().count() == 1, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    text.trim_end().to_owned()
}

#[test]
fn a_right_configuration_is_said_to_be_ok() {
    let output = madcache(&["--check-config"], &[URL]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(output.stdout, b"configuration ok\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn help_and_version_succeed_and_offer_no_flag_for_a_secret() {
    let help = String::from_utf8(madcache(&["--help"], &[]).stdout).unwrap();
    for flag in ["--config", "--bind", "--port", "--unixsocket", "--workers", "--admin-bind", "--log-level"] {
        assert!(help.contains(flag), "{help}");
    }
    assert!(
        !help.contains("--requirepass") && !help.contains("--token") && !help.contains("--url"),
        "{help}"
    );
    let version = madcache(&["--version"], &[]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(version.stdout, format!("madcache {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

#[test]
fn a_wrong_flag_exits_with_2_and_names_the_nearest() {
    let output = madcache(&["--prot", "1"], &[URL]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("'--port'"), "{}", stderr(&output));
    assert_eq!(madcache(&["--port", "65536"], &[URL]).status.code(), Some(2));
}

#[test]
fn a_flag_with_a_wrong_value_says_what_is_expected() {
    assert_eq!(
        refusal(&["--log-level", "loud"], &[URL]),
        "madcache: --log-level = \"loud\": expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\""
    );
    assert!(refusal(&["--bind", "0.0.0.0"], &[URL]).contains("set server.requirepass"));
}

#[test]
fn a_denied_command_that_does_not_exist_is_refused() {
    let setting = |names| [URL, ("MADCACHE_SERVER_DENY_COMMANDS", names)];
    assert!(
        refusal(&[], &setting("DEBUG,FLUSHEVERYTHING"))
            .contains("\"FLUSHEVERYTHING\", which is not a command")
    );
    assert_eq!(madcache(&["--check-config"], &setting("flushall,config set")).status.code(), Some(0));
}

#[test]
fn a_driver_that_needs_a_redis_says_how_to_name_one() {
    for driver in ["redis", "none"] {
        assert!(refusal(&[], &[("MADCACHE_CACHE_DRIVER", driver)]).contains("set REDIS_URL"), "{driver}");
    }
}

#[test]
fn without_an_upstream_the_embedded_engine_serves() {
    assert_eq!(madcache(&["--check-config"], &[]).status.code(), Some(0));
    assert_eq!(madcache(&["--check-config"], &[("MADCACHE_CACHE_DRIVER", "memory")]).status.code(), Some(0));
}

#[test]
fn a_url_that_this_release_cannot_use_is_refused() {
    let url = "memcached://:hunter2@localhost:1";
    assert!(refusal(&[], &[("REDIS_URL", url)]).contains("this release supports redis://"));
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_nearest_known_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    std::fs::write(&path, "[server]\nrequirepass = \"hunter2\"\nclient_max = 3\n").unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(
        refusal(&["--config", path], &[URL]),
        format!("madcache: {path}:3: server.client_max is unknown: did you mean clients_max?")
    );
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_known_one() {
    assert_eq!(
        refusal(&[], &[URL, ("MADCACHE_CACHE_BYTE_MAX", "1")]),
        "madcache: MADCACHE_CACHE_BYTE_MAX is unknown: did you mean MADCACHE_CACHE_BYTES_MAX?"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    assert!(refusal(&["--config", "/nonexistent.toml"], &[URL]).contains("cannot read /nonexistent.toml"));
}

#[test]
fn no_secret_is_printed_whatever_is_wrong_with_its_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    for text in [
        "[server]\nrequirepass = hunter2",
        "[server]\nrequirepass = \"hunter2",
        "[server]\nrequirepass = [\"hunter2\"]",
        "[admin]\ntoken = { hunter2 = 1 }",
        "[upstream]\nurl = \"hunter2\"",
        "[lock]\nurl_override = \"redis://:hunter2@h:x\"",
    ] {
        std::fs::write(&path, text).unwrap();
        refusal(&["--config", path.to_str().unwrap()], &[]);
    }
}

fn load(path: &Path) -> Config {
    let flags = Flags { config: Some(path.to_owned()), ..Flags::default() };
    let url = [("REDIS_URL".to_owned(), "redis://127.0.0.1".into())];
    Source::with_variables(flags, url, |_| true).load().unwrap_or_else(|error| panic!("{error}"))
}

/// `UPDATE_CONF=1 cargo test --test config` writes the file anew after the declaration changed.
#[test]
fn conf_documents_every_key_of_the_declaration_with_its_default() {
    let path = conf().join("madcache.toml");
    if std::env::var_os("UPDATE_CONF").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text == document(),
        "conf/madcache.toml is not what UPDATE_CONF=1 cargo test --test config writes"
    );
    for (name, section) in Config::default().sections() {
        let start = text.find(&format!("\n[{name}]\n")).expect(name);
        for key in section.keys() {
            assert!(text[start..].contains(&format!("\n# {} = ", key.name)), "{name}.{}", key.name);
        }
    }
}

#[test]
fn conf_without_its_comment_signs_is_the_defaults() {
    let text = std::fs::read_to_string(conf().join("madcache.toml")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    let uncommented: Vec<&str> = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
    std::fs::write(&path, uncommented.join("\n")).unwrap();
    let mut config = load(&path);
    assert_eq!(config.rules.len(), 2, "the example of rules loads too");
    config.rules.clear();
    assert_eq!(config.policies.len(), 2, "the example of policies loads too");
    config.policies.clear();
    config.upstream.url = None;
    assert_eq!(config, Config::default());
}

#[test]
fn every_file_in_conf_loads() {
    let mut loaded = 0;
    for entry in std::fs::read_dir(conf()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            load(&path);
            loaded += 1;
        }
    }
    assert!(loaded > 0);
}

//! Merging, errors with file and line, validation and reload, on files and variables made up here.
use std::ffi::OsString;
use std::path::PathBuf;

use super::*;

mod residences;

const URL: (&str, &str) = ("REDIS_URL", "redis://127.0.0.1:6379");
const SENTINEL: (&str, &str) = ("REDIS_URL", "redis-sentinel://127.0.0.1/mymaster");

/// A file in a directory of its own, and what loads it.
struct Setup {
    directory: tempfile::TempDir,
    flags: Flags,
}

impl Setup {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.toml");
        std::fs::write(&path, text).unwrap();
        Self { flags: Flags { config: Some(path), ..Flags::default() }, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn source(&self, variables: &[(&str, &str)]) -> Source {
        let variables = variables.iter().map(|(name, text)| (name.to_string(), OsString::from(text)));
        Source::with_variables(self.flags.clone(), variables, |name| name != "NOSUCH")
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, Error> {
        self.source(variables).load()
    }

    /// The error without the directory.
    fn error(&self, variables: &[(&str, &str)]) -> String {
        let error = self.load(variables).expect_err("an error is expected").to_string();
        assert!(!error.contains('\n'), "{error}");
        error.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn nothing_but_a_url_gives_the_defaults() {
    let mut config = Setup::new("").load(&[URL]).unwrap();
    assert_eq!(config.upstream.url.take().unwrap().expose(), URL.1);
    assert_eq!(config, Config::default());
}

#[test]
fn the_limits_are_those_of_the_design() {
    let limits = Limits::default();
    let shown: Vec<String> = limits.keys().iter().map(|key| limits.show(key).replace('"', "")).collect();
    let expected = "2147483647 512MiB 64KiB 1GiB 10 16KiB 1KiB 5 0 32MiB 8MiB 60 1GiB 1024 16384 4KiB";
    assert_eq!(shown.join(" "), expected);
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let mut setup = Setup::new(
        "[server]\nport = 1\nworkers = 1\ntimeout_seconds = 1\n[upstream]\nurl = 'redis://file'\n[cache]\nttl_seconds = 7",
    );
    setup.flags.port = Some(3);
    let config = setup
        .load(&[
            ("MADCACHE_SERVER_PORT", "2"),
            ("MADCACHE_SERVER_WORKERS", "2"),
            ("CACHE_TTL_SECONDS", "8"),
            URL,
        ])
        .unwrap();
    assert_eq!((config.server.port, config.server.workers, config.server.timeout_seconds), (3, 2, 1));
    assert_eq!(config.server.drain_seconds, 10);
    assert_eq!(config.cache.ttl_seconds, 8);
    assert_eq!(config.upstream.url.unwrap().expose(), URL.1);
}

#[test]
fn a_variable_with_our_prefix_wins_over_one_without() {
    let variables = [
        URL,
        ("MADCACHE_UPSTREAM_URL", "redis://ours"),
        ("CACHE_TTL_SECONDS", "1"),
        ("MADCACHE_CACHE_TTL_SECONDS", "2"),
    ];
    let config = Setup::new("").load(&variables).unwrap();
    assert_eq!(config.upstream.url.unwrap().expose(), "redis://ours");
    assert_eq!(config.cache.ttl_seconds, 2);
}

#[test]
fn variables_are_read_by_the_type_of_their_key() {
    let variables = [
        URL,
        ("MADCACHE_SERVER_BIND", "127.0.0.1, ::1"),
        ("MADCACHE_SERVER_DENY_COMMANDS", "none"),
        ("MADCACHE_CACHE_L1", "no"),
        ("MADCACHE_CACHE_BYTES_MAX", "1GiB"),
        ("MADCACHE_CACHE_ON_L2_DOWN", "serve-stale"),
        ("MADCACHE_ADMIN_BIND", "off"),
        ("MADCACHE_SERVER_WORKERS", "0"),
    ];
    let config = Setup::new("").load(&variables).unwrap();
    assert_eq!(config.server.addresses().unwrap().len(), 2);
    assert!(config.server.deny_commands.is_empty());
    assert!(!config.l1_enabled());
    assert_eq!(config.cache.bytes_max, 1 << 30);
    assert_eq!(config.cache.on_l2_down, OnL2Down::ServeStale);
    assert_eq!(config.admin.address().unwrap(), None);
    assert_eq!(config.server.workers, workers_default());
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let names = ["MADCACHE_SERVER_PORT", "MADCACHE_SERVER_BIND", "MADCACHE_SERVER_REQUIREPASS_FILE"];
    let mut variables: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
    variables.extend([URL, ("MADCACHE_UPSTREAM_URL", "")]);
    let config = Setup::new("").load(&variables).unwrap();
    assert_eq!(config.server, Server::default());
    assert_eq!(config.upstream.url.unwrap().expose(), URL.1);
}

#[test]
fn an_empty_variable_is_a_value_where_empty_means_something() {
    let variables = [URL, ("MADCACHE_SERVER_DENY_COMMANDS", ""), ("MADCACHE_ADMIN_BIND", "")];
    let config = Setup::new("").load(&variables).unwrap();
    assert!(config.server.deny_commands.is_empty());
    assert_eq!(config.admin.address().unwrap(), None);
}

#[test]
fn secrets_may_lie_in_files() {
    let setup = Setup::new("");
    std::fs::write(setup.path("pass"), "hunter2\n").unwrap();
    let path = setup.path("pass");
    let path = path.to_str().unwrap();
    let config = setup
        .load(&[URL, ("MADCACHE_SERVER_REQUIREPASS_FILE", path), ("MADCACHE_ADMIN_TOKEN_FILE", path)])
        .unwrap();
    assert_eq!(config.server.requirepass, Some(Secret::new("hunter2")));
    assert_eq!(config.admin.token, Some(Secret::new("hunter2")));
    assert!(!format!("{config:?}").contains("hunter2"));

    let both = [URL, ("MADCACHE_ADMIN_TOKEN", "x"), ("MADCACHE_ADMIN_TOKEN_FILE", path)];
    assert_eq!(
        setup.error(&both),
        "MADCACHE_ADMIN_TOKEN and MADCACHE_ADMIN_TOKEN_FILE are both set: unset one of them"
    );
    std::fs::write(setup.path("pass"), "\n").unwrap();
    assert!(setup.error(&[URL, ("MADCACHE_ADMIN_TOKEN_FILE", path)]).contains("is empty"));
    assert!(
        setup
            .error(&[URL, ("MADCACHE_ADMIN_TOKEN_FILE", "/nonexistent")])
            .contains("cannot read /nonexistent")
    );
    assert!(
        setup.error(&[("MADCACHE_SERVER_PORT_FILE", path)]).contains("did you mean MADCACHE_SERVER_PORT?")
    );
}

#[test]
fn what_a_file_gets_wrong_is_named_with_its_line() {
    let cases = [
        ("[cache]\n\nttl_secnds = 3", "m.toml:3: cache.ttl_secnds is unknown: did you mean ttl_seconds?"),
        ("[cache]\nport = 3", "m.toml:2: cache.port is unknown: port belongs under [server]"),
        ("[cahce]\nl1 = true", "m.toml:1: [cahce] is unknown: did you mean [cache]?"),
        ("\nport = 1", "m.toml:2: port stands outside of any section: write it under [server]"),
        ("[cache]\n'a\\nb' = 1", "m.toml:2: cache.a\\\\nb is unknown: conf/madcache.toml lists every key"),
        ("[server]\nport = 'x'", "m.toml:2: server.port = \"x\": expected an integer from 0 to 65535"),
        ("[server]\nport = 65536", "m.toml:2: server.port = 65536: expected an integer from 0 to 65535"),
        ("[server]\nport = -1", "m.toml:2: server.port = -1: expected an integer from 0 to 65535"),
        ("[server]\nworkers = 257", "m.toml:2: server.workers = 257: expected an integer from 0 to 256"),
        ("[server]\nport = 1.5", "m.toml:2: server.port = a float: expected an integer from 0 to 65535"),
        ("[cache]\nl1 = 1", "m.toml:2: cache.l1 = 1: expected true or false"),
        (
            "[cache]\njitter_percent = 101",
            "m.toml:2: cache.jitter_percent = 101: expected an integer from 0 to 100",
        ),
        (
            "[cache]\nreply_bytes_max = '1MB'",
            "m.toml:2: cache.reply_bytes_max = \"1MB\": expected a unit with one meaning: 1MiB",
        ),
        (
            "[cache]\nadmission = 'third'",
            "m.toml:2: cache.admission = \"third\": expected \"second\" or \"first\"",
        ),
        ("[server]\nbind = '::1'", "m.toml:2: server.bind = \"::1\": expected an array of strings"),
        ("[server]\nrequirepass = 12345", "m.toml:2: server.requirepass is not usable: expected a string"),
        ("cache = 3", "m.toml:1: cache is a section: write [cache] and its keys below"),
        ("[rules]\npattern = 'x'", "m.toml:1: rules is a list of tables: write [[rules]] before each rule"),
        ("[[rules]]\npattern = 'x'\nttl = 1", "m.toml:3: rules.ttl is unknown: did you mean ttl_seconds?"),
        (
            "[[rules]]\nttl_seconds = 1",
            "m.toml:1: rules.pattern \"\" matches nothing: give each rule a pattern such as \"user:*\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(Setup::new(text).error(&[URL]), expected);
    }
}

#[test]
fn a_file_that_is_not_toml_is_named_with_its_line_but_not_quoted() {
    let error = Setup::new("[server]\nrequirepass = hunter2").error(&[URL]);
    assert!(error.starts_with("m.toml:2: not TOML: ") && !error.contains("hunter2"), "{error}");
    let error = Setup::new("[server]\nport = 1\nport = 2").error(&[URL]);
    assert!(error.starts_with("m.toml:3: not TOML: duplicate key"), "{error}");
}

#[test]
fn an_unknown_variable_names_the_nearest_known_one() {
    let cases = [
        ("MADCACHE_CACHE_TTL", "MADCACHE_CACHE_TTL is unknown: did you mean MADCACHE_CACHE_TTL_SECONDS?"),
        ("MADCACHE_SERVER_PROT", "MADCACHE_SERVER_PROT is unknown: did you mean MADCACHE_SERVER_PORT?"),
        (
            "MADCACHE_RULES_0_PATTERN",
            "MADCACHE_RULES_0_PATTERN is unknown: write [[rules]] into the file of --config",
        ),
    ];
    for (name, expected) in cases {
        assert_eq!(Setup::new("").error(&[URL, (name, "1")]), expected);
    }
}

#[test]
fn variables_of_a_service_that_is_called_madcache_are_not_settings() {
    let links = [
        URL,
        ("MADCACHE_SERVICE_HOST", "10.0.0.1"),
        ("MADCACHE_SERVICE_PORT_REDIS", "6379"),
        ("MADCACHE_PORT", "tcp://10.0.0.1:6379"),
        ("MADCACHE_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
        ("MADCACHE_PORT_6379_TCP_PORT", "6379"),
        ("MADCACHE_SERVER_PORT", "tcp://10.0.0.1:6379"),
    ];
    assert_eq!(Setup::new("").load(&links).unwrap().server.port, 6379);
}

#[test]
fn settings_that_do_not_fit_together_are_refused_with_what_to_do() {
    let cases = [
        ("[server]\nbind = ['0.0.0.0']", "server.requirepass"),
        ("[server]\nbind = ['127.0.0.1', '*']", "server.protected_mode = false"),
        ("[server]\nbind = ['db.example']", "not an IP address"),
        ("[server]\nport = 0", "no listener"),
        ("[server]\nbind = []", "no listener"),
        ("[server]\ndeny_commands = ['nosuch']", "\"NOSUCH\", which is not a command"),
        ("[admin]\nbind = '0.0.0.0:9380'", "admin.token"),
        ("[admin]\nbind = '9380'", "127.0.0.1:9380"),
        ("[lock]\ndriver = 'memory'\nurl_override = 'redis://h'", "contradict each other"),
        ("[lock]\ndriver = 'redis-cluster'", "upstream.url names no cluster"),
        ("[cache]\ndriver = 'redis-cluster'", "upstream.url names no cluster"),
        ("[cache]\ndriver = 'redis-sentinel'", "upstream.url as redis-sentinel://host:26379"),
        ("[lock]\ndriver = 'redis-sentinel'", "lock.driver = \"redis-sentinel\", and upstream.url names no"),
        ("[server]\ntls_port = 6380", "set server.tls_cert_file"),
        ("[server]\ntls_port = 6379\ntls_cert_file = 'c'\ntls_key_file = 'k'", "choose another one"),
        ("[server]\ntls_cert_file = 'c'", "one is missing"),
        ("[server]\ntls_auth_clients = 'yes'", "set server.tls_ca_file"),
        ("[server]\ntls_ca_file = 'a'", "server.tls_auth_clients = \"yes\""),
        ("[server]\ntls_auth_clients = 'maybe'", "\"no\", \"optional\""),
        ("[upstream]\ntls_key_file = 'k'", "one is missing"),
        (
            "[server]\nbind = ['*']\ntls_port = 6380\ntls_cert_file = 'c'\ntls_key_file = 'k'",
            "server.port = 0",
        ),
        (
            "[lock]\ndriver = 'redis-sentinel'\nurl_override = 'redis://h'",
            "lock.url_override names no sentinels: set lock.url_override",
        ),
        ("[session]\nurl_override = 'redis-sentinel://x'", "session.url_override names no service"),
        ("[cache]\ndriver = 'memory'\n[lock]\ndriver = 'redis'", "set lock.url_override"),
        ("[lock]\nredlock = ['redis://a', 'redis://b']", "lock.redlock names 2 masters"),
        (
            "[lock]\nredlock = ['redis://a', 'redis://b', 'redis://:pw@a:6379/3']",
            "a:6379 twice (URLs 1 and 3)",
        ),
        (
            "[lock]\nredlock = ['redis://a', 'redis://b', 'http://c']",
            "lock.redlock, its URL 3 has an unknown scheme",
        ),
        (
            "[lock]\ndriver = 'memory'\nredlock = ['redis://a', 'redis://b', 'redis://c']",
            "contradict each other",
        ),
        (
            "[lock]\nurl_override = 'redis://h'\nredlock = ['redis://a', 'redis://b', 'redis://c']",
            "lock.url_override and lock.redlock contradict",
        ),
        ("[session]\non_l2_down = 'serve-stale'", "session.on_l2_down"),
        ("[cache]\nbytes_max = '64KiB'", "raise cache.bytes_max"),
        ("[[rules]]\npattern = 'a[b'", "[ without ]"),
        ("[[rules]]\npattern = 'a\\'", "backslash"),
    ];
    for (text, part) in cases {
        let error = Setup::new(text).error(&[URL]);
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(Setup::new("[cache]\ndriver = 'redis'").error(&[]).contains("no upstream is set"));
    assert!(Setup::new("[cache]\ndriver = 'redis-sentinel'").error(&[]).contains("no upstream is set"));
    assert!(Setup::new("[lock]\ndriver = 'redis'").error(&[]).contains("set lock.url_override"));
}

#[test]
fn tls_alone_may_face_other_machines_and_is_known_to_let_strangers_in() {
    let tls = "[server]\nbind = ['*']\nport = 0\ntls_port = 6380\ntls_cert_file = 'c'\ntls_key_file = 'k'\n";
    let cases = [
        ("", true),
        ("tls_ca_file = 'a'\ntls_auth_clients = 'optional'", true),
        ("tls_ca_file = 'a'\ntls_auth_clients = 'yes'", false),
        ("requirepass = 'pw'", false),
    ];
    for (more, strangers) in cases {
        let config = Setup::new(&format!("{tls}{more}")).load(&[URL]).unwrap();
        assert_eq!(config.server.lets_strangers_in(), strangers, "{more}");
    }
}

#[test]
fn the_name_of_the_certificate_is_for_the_redis_of_the_url_alone() {
    let text = "[upstream]\nurl = 'rediss://10.0.0.1'\ntls_server_name = 'redis.internal'\n\
                [lock]\nurl_override = 'valkeys://h'";
    let residences = Setup::new(text).load(&[]).unwrap().residences().unwrap();
    let name = residences.upstream.tls.as_ref().unwrap().server_name.as_deref();
    assert_eq!(name, Some("redis.internal"));
    let Residence::Own(lock) = residences.of(Kind::Lock) else { panic!("{residences:?}") };
    assert_eq!(lock.tls.as_ref().unwrap().server_name, None);
    assert!(residences.speak_tls());
    assert!(!Setup::new("").load(&[URL]).unwrap().residences().unwrap().speak_tls());
}

#[test]
fn protection_is_satisfied_by_a_password_a_unix_socket_or_a_decision() {
    let fine = [
        "[server]\nbind = ['0.0.0.0', '::']\nrequirepass = 'x'",
        "[server]\nbind = ['0.0.0.0']\nprotected_mode = false",
        "[server]\nport = 0\nunixsocket = '/tmp/x.sock'",
        "[server]\nbind = ['127.0.0.53', '::1', 'localhost']",
        "[admin]\nbind = '[::]:9380'\ntoken = 'x'",
        "[admin]\nbind = 'localhost:0'",
    ];
    for text in fine {
        Setup::new(text).load(&[URL]).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn names_of_denied_commands_are_brought_into_one_form() {
    let config = Setup::new("[server]\ndeny_commands = ['debug', 'config set', 'Module | Load']")
        .load(&[URL])
        .unwrap();
    assert_eq!(config.server.deny_commands, ["DEBUG", "CONFIG|SET", "MODULE|LOAD"]);
}

#[test]
fn rules_keep_their_order_and_say_only_what_they_set() {
    let config = Setup::new(
        "[[rules]]\npattern = 'b:*'\ncache = false\n[[rules]]\npattern = 'a\\[*'\nttl_seconds = 5",
    );
    let rules = config.load(&[URL]).unwrap().rules;
    let never = Rule { pattern: "b:*".into(), cache: Some(false), ..Rule::default() };
    let short = Rule { pattern: "a\\[*".into(), ttl_seconds: Some(5), ..Rule::default() };
    assert_eq!(rules, [never, short]);
}

#[test]
fn policies_are_tables_by_name_and_must_be_whole() {
    let free = "[ratelimit]\nnodes = 3\n[ratelimit.policies.free]\nlimit = 60\nwindow_ms = 60000\n";
    let paid = "[ratelimit.policies.'a b']\nlimit = 5\nwindow_ms = 1000\nburst = 9\non_l2_down = 'closed'";
    let setup = Setup::new(&format!("{free}{paid}"));
    let config = setup.load(&[URL]).unwrap();
    assert_eq!(config.ratelimit.nodes, 3);
    assert_eq!(config.policies.keys().collect::<Vec<_>>(), ["a b", "free"]);
    assert_eq!(config.policies["free"].algorithm(), LimitAlgorithm::Sliding);
    assert_eq!(config.policies["a b"].algorithm(), LimitAlgorithm::Gcra);
    assert_eq!(config.policies["a b"].on_l2_down, Some(LimitOnL2Down::Closed));

    std::fs::write(setup.path("m.toml"), free).unwrap();
    let new = setup.source(&[URL]).load().unwrap();
    assert_eq!(live_changes(&config, &new).applied, ["ratelimit.policies"]);
    assert_eq!(config.reloaded(new).policies.len(), 1);

    let head = "[ratelimit.policies.p]\n";
    for (text, part) in [
        ("limit = 5", "m.toml:1: ratelimit.policies.p lacks limit or window_ms"),
        ("limit = 0\nwindow_ms = 5", "ratelimit.policies.p.limit = 0: expected an integer from 1"),
        ("limit = 5\nwindow = 5", "ratelimit.policies.p.window is unknown: did you mean window_ms?"),
        ("limit = 5\nwindow_ms = 5\nburst = 9\nalgo = 'log'", "use algo = \"gcra\""),
        ("limit = 5\nwindow_ms = 5\nalgo = 'token'", "expected \"sliding\", \"gcra\", \"fixed\" or \"log\""),
        ("limit = 100000000000\nwindow_ms = 100000", "more than 2^53"),
    ] {
        let error = Setup::new(&format!("{head}{text}")).error(&[URL]);
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(
        Setup::new("[ratelimit.policies]\nfree = 60").error(&[URL]).contains("[ratelimit.policies.<name>]")
    );
    let variable = Setup::new("").error(&[URL, ("MADCACHE_RATELIMIT_POLICIES_FREE_LIMIT", "1")]);
    assert!(variable.contains("[ratelimit.policies.<name>] into the file"), "{variable}");
}

#[test]
fn a_prefix_has_no_braces_but_those_of_one_hash_tag() {
    for prefix in ["", "app:", "{app}:", "a{b}c"] {
        let text = format!("[lock]\nprefix = '{prefix}'");
        Setup::new(&text).load(&[URL]).unwrap_or_else(|error| panic!("{prefix}: {error}"));
    }
    for prefix in ["{", "}a{", "{}a", "{a}{b}", "a}"] {
        let error = Setup::new(&format!("[presence]\nprefix = '{prefix}'")).error(&[URL]);
        assert!(error.contains("presence.prefix"), "{prefix}: {error}");
    }
}

#[test]
fn a_reload_applies_what_can_change_live_and_names_the_rest() {
    let setup = Setup::new("");
    let source = setup.source(&[URL]);
    let old = source.load().unwrap();
    let text = "[server]\nport = 1\nrequirepass = 'x'\n[cache]\nttl_seconds = 5\nbytes_max = '1GiB'\n[[rules]]\npattern = '*'";
    std::fs::write(setup.path("m.toml"), text).unwrap();
    let new = source.load().unwrap();
    let changes = live_changes(&old, &new);
    assert_eq!(changes.applied, ["server.requirepass", "cache.ttl_seconds", "rules"]);
    assert_eq!(changes.needs_restart, ["server.port", "cache.bytes_max"]);

    let running = old.reloaded(new.clone());
    assert_eq!((running.server.port, running.cache.bytes_max), (6379, 256 << 20));
    assert_eq!((running.cache.ttl_seconds, running.rules.len()), (5, 1));
    assert!(live_changes(&running, &new).applied.is_empty());

    std::fs::write(setup.path("m.toml"), "[cache]\nttl_seconds = 0").unwrap();
    assert!(source.load().is_err());
}

#[test]
fn every_name_is_unique_and_every_default_is_in_its_range() {
    let mut config = Config::default();
    let mut variables = std::collections::HashSet::new();
    let declared: Vec<_> = config
        .sections()
        .into_iter()
        .flat_map(|(name, section)| section.keys().iter().map(move |key| (name, key, section.show(key))))
        .collect();
    for (name, key, shown) in declared {
        assert!(variables.insert(key.variable(name)), "{name}.{} twice", key.name);
        assert!(!key.doc.is_empty(), "{name}.{} has no documentation", key.name);
        let text = format!("[{name}]\n{} = {shown}", key.name);
        file::apply_text(&mut config, "default", &text).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(config, Config::default());
}

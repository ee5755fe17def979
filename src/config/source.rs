//! Where settings come from: flags over environment over file over defaults. Captured once, so that a reload reads
//! the file again but never another environment.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::declare::Key;
use super::nearest::nearest;
use super::value::Raw;
use super::{Config, Error, file};

const HELP_TAIL: &str = "\
Flags win over the environment, the environment over the file, the file over the defaults.
Environment: MADCACHE_<SECTION>_<KEY>, MADCACHE_<SECTION>_<KEY>_FILE for secrets, REDIS_URL, CACHE_TTL_SECONDS.
SIGHUP reads the file again; SIGTERM finishes what was asked and exits.";

/// A coherent caching proxy that speaks the Redis protocol.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "madcache", version, after_help = HELP_TAIL)]
pub struct Flags {
    /// Settings in TOML; conf/madcache.toml documents every key
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// IP address to listen on; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub bind: Vec<String>,
    /// TCP port; 0 = no TCP
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Path of a unix socket to listen on
    #[arg(long, value_name = "PATH")]
    pub unixsocket: Option<String>,
    /// Threads that serve clients; 0 = half the cores, 1 to 4
    #[arg(long, value_name = "N")]
    pub workers: Option<u64>,
    /// Address of metrics, health and status; off = none
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin_bind: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "L")]
    pub log_level: Option<String>,
    /// Check the settings, say whether they are right, and exit
    #[arg(long)]
    pub check_config: bool,
}

/// Captured flags and environment. Has no `Debug`: the environment holds secrets.
#[derive(Clone)]
pub struct Source {
    flags: Flags,
    variables: BTreeMap<String, OsString>,
    known_command: fn(&str) -> bool,
}

impl Source {
    /// Captures the environment of this process. `known_command` checks names such as `CONFIG|SET`.
    pub fn new(flags: Flags, known_command: fn(&str) -> bool) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text)));
        Self::with_variables(flags, variables, known_command)
    }

    /// As `new`, with a given environment.
    pub fn with_variables(
        flags: Flags,
        variables: impl IntoIterator<Item = (String, OsString)>,
        known_command: fn(&str) -> bool,
    ) -> Self {
        let ours = |name: &str| name.starts_with(PREFIX) || ALIASES.iter().any(|alias| alias.0 == name);
        let variables = variables.into_iter().filter(|(name, _)| ours(name)).collect();
        Self { flags, variables, known_command }
    }

    /// The file that `load` reads.
    pub fn file(&self) -> Option<&Path> {
        self.flags.config.as_deref()
    }

    /// Reads the file again, merges, validates.
    pub fn load(&self) -> Result<Config, Error> {
        let mut config = Config::default();
        if let Some(path) = self.file() {
            file::apply(&mut config, path)?;
        }
        self.apply_variables(&mut config)?;
        self.apply_flags(&mut config)?;
        config.normalize();
        config.validate(self.known_command)?;
        Ok(config)
    }

    fn apply_flags(&self, config: &mut Config) -> Result<(), Error> {
        let flags = &self.flags;
        let words = |text: String| Raw::Words(text);
        let given = [
            ("--bind", "server", "bind", (!flags.bind.is_empty()).then(|| Raw::List(flags.bind.clone()))),
            ("--port", "server", "port", flags.port.map(|port| words(port.to_string()))),
            ("--unixsocket", "server", "unixsocket", flags.unixsocket.clone().map(words)),
            ("--workers", "server", "workers", flags.workers.map(|workers| words(workers.to_string()))),
            ("--admin-bind", "admin", "bind", flags.admin_bind.clone().map(words)),
            ("--log-level", "log", "level", flags.log_level.clone().map(words)),
        ];
        for (flag, section, name, raw) in given {
            if let Some(raw) = raw {
                set(config, flag, section, name, &raw)?;
            }
        }
        Ok(())
    }

    fn apply_variables(&self, config: &mut Config) -> Result<(), Error> {
        let known = Variables::of(config);
        for (alias, section, name) in ALIASES {
            if let Some(text) = self.variable(alias)? {
                set(config, alias, section, name, &Raw::Words(text.to_owned()))?;
            }
        }
        for variable in self.variables.keys().filter(|name| name.starts_with(PREFIX)) {
            let Some(text) = self.variable(variable)? else { continue };
            match known.meaning(variable, text) {
                Meaning::Key(section, name) => {
                    set(config, variable, section, name, &Raw::Words(text.to_owned()))?;
                }
                Meaning::SecretFile(section, name) => {
                    let plain = variable.trim_end_matches(FILE_SUFFIX);
                    if self.variable(plain)?.is_some() {
                        return Err(Error::new(
                            format!("{plain} and {variable} are both set"),
                            "unset one of them",
                        ));
                    }
                    let secret = read_secret(variable, Path::new(text))?;
                    set(config, variable, section, name, &Raw::Words(secret))?;
                }
                Meaning::Foreign => {}
                Meaning::Unknown(remedy) => {
                    return Err(Error::new(format!("{} is unknown", variable.escape_debug()), remedy));
                }
            }
        }
        Ok(())
    }

    /// An empty variable counts as unset: that is what `NAME: ${NAME:-}` in a compose file means. Where empty is a
    /// value of its own (no command denied, no admin server), it is that value.
    fn variable(&self, name: &str) -> Result<Option<&str>, Error> {
        let may_be_empty = MEANINGFUL_WHEN_EMPTY.contains(&name);
        match self.variables.get(name) {
            None => Ok(None),
            Some(text) => match text.to_str() {
                Some(text) => Ok(Some(text).filter(|text| !text.is_empty() || may_be_empty)),
                None => Err(Error::new(format!("{name} is not UTF-8"), "correct or unset it")),
            },
        }
    }
}

const MEANINGFUL_WHEN_EMPTY: [&str; 2] = ["MADCACHE_SERVER_DENY_COMMANDS", "MADCACHE_ADMIN_BIND"];
const PREFIX: &str = "MADCACHE_";
const FILE_SUFFIX: &str = "_FILE";

/// Variables with names of their own; `MADCACHE_` ones win over them.
const ALIASES: [(&str, &str, &str); 2] =
    [("REDIS_URL", "upstream", "url"), ("CACHE_TTL_SECONDS", "cache", "ttl_seconds")];

fn set(config: &mut Config, origin: &str, section: &str, name: &str, raw: &Raw) -> Result<(), Error> {
    let fields = config.section_mut(section).expect("flags and variables name declared sections");
    let key =
        fields.keys().iter().find(|key| key.name == name).expect("flags and variables name declared keys");
    fields.set(key, raw).map_err(|expected| {
        let found = if key.secret { " is not usable".to_owned() } else { format!(" = {raw}") };
        Error::new(format!("{origin}{found}"), format!("expected {expected}"))
    })
}

fn read_secret(variable: &str, path: &Path) -> Result<String, Error> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(format!("{variable}: cannot read {name}: {error}"), "name a readable file")
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Error::new(format!("{variable}: {name} is empty"), "write the secret into it"));
    }
    Ok(text.to_owned())
}

/// What a `MADCACHE_` variable says.
enum Meaning {
    Key(&'static str, &'static str),
    SecretFile(&'static str, &'static str),
    /// Set by an orchestrator for a service of that name, not for us.
    Foreign,
    /// With what to do.
    Unknown(String),
}

/// Every variable that the declaration gives.
struct Variables(Vec<(String, &'static str, &'static Key)>);

impl Variables {
    fn of(config: &Config) -> Self {
        let sections = config.sections();
        let keys = sections.iter().flat_map(|(section, fields)| {
            fields.keys().iter().map(move |key| (key.variable(section), *section, key))
        });
        Self(keys.collect())
    }

    fn meaning(&self, variable: &str, text: &str) -> Meaning {
        let find = |wanted: &str| self.0.iter().find(|(name, _, _)| name == wanted);
        if is_service_link(variable, text) {
            return Meaning::Foreign;
        }
        if let Some((_, section, key)) = find(variable) {
            return Meaning::Key(section, key.name);
        }
        if let Some((_, section, key)) = variable.strip_suffix(FILE_SUFFIX).and_then(find)
            && key.secret
        {
            return Meaning::SecretFile(section, key.name);
        }
        if variable.starts_with("MADCACHE_RULES") {
            return Meaning::Unknown("write [[rules]] into the file of --config".to_owned());
        }
        if variable.starts_with("MADCACHE_RATELIMIT_POLICIES") {
            return Meaning::Unknown(
                "write [ratelimit.policies.<name>] into the file of --config".to_owned(),
            );
        }
        let mut names: Vec<String> = self.0.iter().map(|(name, _, _)| name.clone()).collect();
        names.extend(
            self.0.iter().filter(|known| known.2.secret).map(|known| format!("{}{FILE_SUFFIX}", known.0)),
        );
        let bare = |name: &str| name.trim_start_matches(PREFIX).to_owned();
        let bare_names: Vec<String> = names.iter().map(|name| bare(name)).collect();
        Meaning::Unknown(match nearest(&bare(variable), bare_names.iter().map(String::as_str)) {
            Some(known) => format!("did you mean {PREFIX}{known}?"),
            None => "variables are named MADCACHE_<SECTION>_<KEY> after conf/madcache.toml".to_owned(),
        })
    }
}

/// Kubernetes and Docker links describe a service named `madcache` or `madcache-x` to every container beside it:
/// `MADCACHE_SERVICE_HOST`, `MADCACHE_PORT=tcp://..`, `MADCACHE_X_PORT_6379_TCP_ADDR`.
fn is_service_link(variable: &str, text: &str) -> bool {
    let describes_port = variable.rsplit_once("_PORT_").is_some_and(|(_, tail)| {
        let digits = tail.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < tail.len()
            && ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| digits.starts_with(protocol))
    });
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_")
        || describes_port
        || variable.ends_with("_PORT") && is_url
}

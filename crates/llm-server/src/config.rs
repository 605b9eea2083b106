//! The server's own settings: the section `[server]` of the configuration, and its environment variables.
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use llm_core::gateway::env::value;
use llm_core::gateway::variables::Variable;
use llm_core::{Error, Result, secret::Secret};
use serde::{Deserialize, Serialize};

use crate::keys::Keys;
use crate::proxies::Proxies;
use crate::{cors, tls};

/// The variables of the server and of whoever starts it, for `.env.example` and `llm config`.
pub const VARIABLES: &[Variable] = &[
    Variable::new("LLM_CONFIG", "a TOML file that says more than variables can: several models, queues, fallbacks", ""),
    Variable::new("LLM_LISTEN", "the server's address", "127.0.0.1:8000").of("server.listen"),
    Variable::new("LLM_METRICS_LISTEN", "a second address for metrics alone, without a key, or off", "127.0.0.1:9090")
        .of("server.metrics"),
    Variable::new(
        "LLM_API_KEY",
        "the key that the server's clients must send; a server that others can reach makes one where there is none",
        "",
    )
    .secret()
    .of("server.api_key"),
    Variable::new("LLM_KEYS", "a TOML file with more keys, each with a name: see `llm keys`", "").of("server.keys"),
    Variable::new("LLM_CORS", "the origins whose pages may ask, with commas: https://chat.example.com, or *", "")
        .of("server.cors"),
    Variable::new("LLM_TLS_CERT", "a PEM file with the certificate that clients are shown; plain HTTP without", "")
        .of("server.tls_cert"),
    Variable::new("LLM_TLS_KEY", "a PEM file with the private key of that certificate", "").of("server.tls_key"),
    Variable::new(
        "LLM_TRUSTED_PROXIES",
        "the proxies before the server whose x-forwarded-for says who asks, with commas: 10.0.0.0/8",
        "",
    )
    .of("server.trusted_proxies"),
    Variable::new(
        "LLM_TRUSTED_USER_HEADER",
        "the header in which those proxies name whom they let in; they must set it themselves: x-forwarded-user",
        "",
    )
    .of("server.trusted_user_header"),
    Variable::new("LLM_THREADS", "the server's threads, each with a runtime of its own; 0 is one per core", "0")
        .of("server.threads"),
    Variable::new("LLM_LOG", "where the server's log of calls goes: stderr, off or a file", "stderr").of("server.log"),
    Variable::new(
        "LLM_DATA_DIR",
        "where models and the server's own key are kept, if not in the user's data folder: ~/.local/share/llm",
        "",
    ),
];

/// Where it listens, who may ask, and how much.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The API's address. `LLM_LISTEN`.
    pub listen: SocketAddr,
    /// A second address for metrics alone, without a key; `"off"` for none. `LLM_METRICS_LISTEN`.
    #[serde(deserialize_with = "address_or_off")]
    pub metrics: Option<SocketAddr>,
    /// The key that clients must send. `LLM_API_KEY`, or `LLM_API_KEY_FILE` with the path of a file.
    pub api_key: Option<Secret>,
    /// A TOML file with the hashes of more keys, each with a name; `llm keys` makes them. `LLM_KEYS`.
    pub keys: Option<PathBuf>,
    /// The origins whose pages may ask: `https://chat.example.com`, or `*`; by default none. `LLM_CORS`, with commas.
    pub cors: Vec<String>,
    /// A PEM file with the certificate that clients are shown, its chain behind it; plain HTTP without. `LLM_TLS_CERT`.
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with its private key. `LLM_TLS_KEY`.
    pub tls_key: Option<PathBuf>,
    /// The proxies before this server, by address or network (`10.0.0.0/8`), whose `x-forwarded-for` says who asks where no
    /// key has a name; by default none. `LLM_TRUSTED_PROXIES`, with commas.
    pub trusted_proxies: Vec<String>,
    /// The header in which they name whom they let in (`x-forwarded-user`), which goes before the address; by default none,
    /// as a proxy that does not set it passes on what its client says there. `LLM_TRUSTED_USER_HEADER`.
    pub trusted_user_header: Option<String>,
    /// Threads, each with a runtime of its own; 0 is one per core. `LLM_THREADS`.
    pub threads: usize,
    /// The longest body in bytes: some images, or a long context several times over.
    pub max_body: usize,
    /// Connections at once; more are closed at once.
    pub max_connections: usize,
    /// How long a client may take to send its headers, in seconds.
    pub header_timeout_s: u64,
    /// How long a client may take to send its body, in seconds.
    pub body_timeout_s: u64,
    /// How long a client may take nothing of its answer before it is given up, in seconds: its turn is another's.
    pub write_timeout_s: u64,
    /// The longest that a client may wait for a model that is being loaded (`Prefer: wait=30`), in seconds.
    pub max_patience_s: u64,
    /// How long running answers may go on after the signal to stop, in seconds.
    pub shutdown_timeout_s: u64,
    /// Where the log of calls goes: `stderr`, `off` or a file. `LLM_LOG`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9090))),
            api_key: None,
            keys: None,
            cors: Vec::new(),
            tls_cert: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
            trusted_user_header: None,
            threads: 0,
            max_body: 32 << 20,
            max_connections: 10_000,
            header_timeout_s: 10,
            body_timeout_s: 120,
            write_timeout_s: 120,
            max_patience_s: 600,
            shutdown_timeout_s: 60,
            log: "stderr".into(),
        }
    }
}

fn address_or_off<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Option<SocketAddr>, D::Error> {
    metrics_address(&String::deserialize(d)?).map_err(serde::de::Error::custom)
}

fn metrics_address(text: &str) -> std::result::Result<Option<SocketAddr>, String> {
    if text == "off" {
        Ok(None)
    } else {
        text.parse().map(Some).map_err(|_| format!("{text:?} is neither an address nor \"off\""))
    }
}

impl Config {
    /// The section `[server]`, taken out of a configuration so that the rest is `llm-core`'s.
    ///
    /// # Errors
    /// `Config`, with the place.
    pub fn take(table: &mut toml::Table) -> Result<Config> {
        match table.remove("server").unwrap_or_else(|| toml::Table::new().into()) {
            toml::Value::Table(section) => llm_core::provider::settings(&section).map_err(|e| e.at("server")),
            _ => Err(Error::config("must be a section").at("server")),
        }
    }

    /// What the environment says goes before what the file says.
    ///
    /// # Errors
    /// `Config`, with the variable.
    pub fn with_env(mut self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Config> {
        let get = |name: &str| lookup(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        if let Some(listen) = get("LLM_LISTEN") {
            self.listen = address(&listen).map_err(|e| e.at("LLM_LISTEN"))?;
        }
        if let Some(metrics) = get("LLM_METRICS_LISTEN") {
            self.metrics = metrics_address(&metrics).map_err(|e| Error::config(e).at("LLM_METRICS_LISTEN"))?;
        }
        if let Some(threads) = get("LLM_THREADS") {
            self.threads = threads.parse().map_err(|_| Error::config("must be a number").at("LLM_THREADS"))?;
        }
        let list = |name| get(name).map(|all| all.split(',').map(|one| one.trim().to_owned()).collect());
        self.cors = list("LLM_CORS").unwrap_or(self.cors);
        self.trusted_proxies = list("LLM_TRUSTED_PROXIES").unwrap_or(self.trusted_proxies);
        self.trusted_user_header = get("LLM_TRUSTED_USER_HEADER").or(self.trusted_user_header);
        self.keys = get("LLM_KEYS").map(PathBuf::from).or(self.keys);
        self.tls_cert = get("LLM_TLS_CERT").map(PathBuf::from).or(self.tls_cert);
        self.tls_key = get("LLM_TLS_KEY").map(PathBuf::from).or(self.tls_key);
        self.log = get("LLM_LOG").unwrap_or(self.log);
        if let Some(key) = Secrets(lookup).key()? {
            self.api_key = Some(key);
        }
        Ok(self)
    }

    /// Reads what the settings name, and starts nothing: keys, proxies, certificate, the pages that may ask.
    ///
    /// ```
    /// let config = llm_server::Config { cors: vec!["x".into()], ..Default::default() };
    /// assert!(config.check().unwrap_err().to_string().starts_with("server.cors: "));
    /// ```
    ///
    /// # Errors
    /// `Config`, with the setting.
    pub fn check(&self) -> Result<()> {
        Keys::of(self)?;
        let within = |error: Error| error.at("server");
        Proxies::of(self).map_err(within)?;
        tls::of(self).map_err(within)?;
        cors::layer(&self.cors).map(drop).map_err(within)
    }

    /// The settings in which another differs; a key that it does not name is one that was made.
    pub(crate) fn differences(&self, other: &Config) -> Vec<String> {
        let fields = |config: &Config| serde_json::to_value(config).unwrap_or_default();
        let (mine, theirs) = (fields(self), fields(other));
        let of = |name: &String| name != "api_key" && mine[name] != theirs[name];
        let mut differ: Vec<String> =
            theirs.as_object().into_iter().flat_map(|map| map.keys()).filter(|n| of(n)).cloned().collect();
        if other.api_key.is_some() && other.api_key != self.api_key {
            differ.push("api_key".into());
        }
        differ
    }

    /// Whether nobody needs a key.
    pub(crate) fn has_no_key(&self) -> bool {
        self.api_key.is_none() && self.keys.is_none()
    }

    /// Whether others than this machine can reach it.
    pub fn is_exposed(&self) -> bool {
        !self.listen.ip().is_loopback()
    }
}

/// `8000`, `0.0.0.0:8000`, `localhost:8000`.
fn address(text: &str) -> Result<SocketAddr> {
    let text = text.replace("localhost", "127.0.0.1");
    if let Ok(port) = text.parse::<u16>() {
        return Ok((IpAddr::from([127, 0, 0, 1]), port).into());
    }
    text.parse().map_err(|_| Error::config(format!("{text:?} is no address; it should look like 0.0.0.0:8000")))
}

/// Secrets of the environment.
pub struct Secrets<'a>(pub &'a dyn Fn(&str) -> Option<String>);

impl Secrets<'_> {
    /// `LLM_API_KEY`, or the content of the file that `LLM_API_KEY_FILE` names.
    ///
    /// # Errors
    /// `Config` if that file cannot be read, or is empty: an empty key would let everybody in.
    pub fn key(&self) -> Result<Option<Secret>> {
        Ok(value(self.0, "LLM_API_KEY")?.map(Secret::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_goes_before_the_file() {
        let mut table: toml::Table = "[server]\nlisten = '127.0.0.1:1'\nmetrics = 'off'\n[models]".parse().unwrap();
        let config = Config::take(&mut table).unwrap();
        assert!(config.metrics.is_none() && table.len() == 1);
        let env = |name: &str| (name == "LLM_LISTEN").then(|| "0.0.0.0:9".to_owned());
        let config = config.with_env(&env).unwrap();
        assert!(config.listen.port() == 9 && config.is_exposed());
    }

    #[test]
    fn what_the_variables_say_of_defaults_is_true() {
        let shown = serde_json::to_value(Config::default()).unwrap();
        for variable in VARIABLES {
            let Some(setting) = variable.setting.strip_prefix("server.") else { continue };
            let holds = match &shown[setting] {
                serde_json::Value::Null => String::new(),
                serde_json::Value::Array(all) if all.is_empty() => String::new(),
                serde_json::Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            assert_eq!(variable.default, holds, "{}", variable.name);
        }
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let mut table: toml::Table = "[server]\nlissten = 1".parse().unwrap();
        assert!(
            Config::take(&mut table).unwrap_err().to_string().starts_with("server.lissten: unknown field `lissten`")
        );
        let env = |name: &str| (name == "LLM_LISTEN").then(|| "nowhere".to_owned());
        assert!(Config::default().with_env(&env).unwrap_err().to_string().starts_with("LLM_LISTEN: "));
    }

    #[test]
    fn the_key_may_stand_in_a_file_and_an_empty_variable_does_not_hide_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = |variable: Option<&'static str>, file: &str| {
            std::fs::write(&path, file).unwrap();
            let env = |name: &str| match name {
                "LLM_API_KEY" => variable.map(str::to_owned),
                "LLM_API_KEY_FILE" => Some(path.display().to_string()),
                _ => None,
            };
            let key = Config::default().with_env(&env)?.api_key;
            Ok::<_, Error>(key.map(|key| key.reveal().to_owned()))
        };
        for empty in [None, Some(""), Some(" ")] {
            assert_eq!(key(empty, "sk-file\n").unwrap().as_deref(), Some("sk-file"), "{empty:?}");
        }
        assert_eq!(key(Some("sk-env"), "sk-file").unwrap().as_deref(), Some("sk-env"));
        let error = key(Some(""), "\n").unwrap_err().to_string();
        assert!(error.starts_with("LLM_API_KEY_FILE: ") && error.ends_with("is empty"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let gone = |name: &str| (name == "LLM_API_KEY_FILE").then(|| path.display().to_string());
        let error = Config::default().with_env(&gone).unwrap_err().to_string();
        assert!(error.starts_with("LLM_API_KEY_FILE: cannot read "), "{error}");
        assert!(Config::default().with_env(&|_| Some(String::new())).unwrap().api_key.is_none());
    }
}

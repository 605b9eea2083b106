//! From files and environment to a running server: what `llm serve` and the `llm-server` binary share.
use std::path::Path;
use std::sync::Arc;

use llm_core::gateway::config::read_toml;
use llm_core::gateway::env::Lookup;
use llm_core::gateway::origins::Origins;
use llm_core::provider::Kind;
use llm_core::{Error, Gateway, Result};

use crate::log::Log;
use crate::{Config, Server, Telemetry, files, key, start};

/// What is served, and how.
pub struct Composed {
    /// The server's own settings.
    pub server: Config,
    /// The models.
    pub models: llm_core::Config,
}

/// Reads the configuration: the file if there is one, the environment before it and for what it leaves out.
///
/// # Errors
/// `Config`, with the place.
pub fn read(file: Option<&Path>, lookup: Lookup<'_>) -> Result<Composed> {
    let (mut table, mut origins) = (toml::Table::new(), Origins::default());
    if let Some(path) = file {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| Error::config(format!("cannot read {place}: {e}")))?;
        table = read_toml(&text).map_err(|e| e.at(place))?;
        origins = Origins::of_toml(&path.display().to_string(), &text);
    }
    let server = Config::take(&mut table).map_err(|error| origins.tell(error))?.with_env(lookup)?;
    let names_models = table.contains_key("models");
    let mut models = llm_core::Config::from_table(table).map_err(|error| origins.tell(error))?;
    models.origins = origins;
    if !names_models {
        models.take_models(llm_core::Config::from_env(lookup)?);
    }
    Ok(Composed { server, models: models.with_env(lookup)? })
}

impl Composed {
    /// Whether the server's own settings are right; it starts nothing.
    ///
    /// # Errors
    /// `Config`, with the place.
    pub fn check(&self) -> Result<()> {
        self.server.check().map_err(|error| self.models.origins.tell(error))
    }

    /// Builds and starts it, with as many open files as the process may have. A server that others can reach and that has
    /// no key makes one, in this file; whether it is new is told, so that the door can print it once.
    ///
    /// # Errors
    /// `Config`, with the place of what is wrong.
    pub fn start(mut self, kinds: &[Kind], key_file: Option<&Path>) -> Result<(Server, Option<String>)> {
        self.check()?;
        let mut new_key = None;
        if self.server.is_exposed() && self.server.has_no_key() {
            let (key, is_new) = key::kept(key_file.ok_or_else(key::homeless)?)?;
            new_key = is_new.then(|| key.reveal().to_owned());
            self.server.api_key = Some(key);
        }
        files::raise(self.server.max_connections);
        let telemetry = Telemetry::new(Log::to(&self.server.log)?)?;
        let gateway = Gateway::with(&self.models, kinds, telemetry.clone())?;
        Ok((start(self.server, Arc::new(gateway), telemetry)?, new_key))
    }
}

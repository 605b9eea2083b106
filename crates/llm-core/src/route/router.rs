//! Sends a call to the model that it names, by name or alias; an unknown name is answered with the names there are.
use std::collections::HashMap;
use std::sync::Arc;

use super::deployment::Deployment;
use super::fallback::Fallback;
use super::health::Status;
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::hosts;

/// Any name that is no model's goes to the model with this name, if there is one.
pub const ANY: &str = "*";

/// One model as clients see it.
pub struct Model {
    /// Its name.
    pub name: Arc<str>,
    /// Its other names.
    pub aliases: Vec<String>,
    /// What it is for, in one word.
    pub specialization: Option<String>,
    /// Its context window in tokens, as configured.
    pub context_window: Option<u32>,
    /// What it can be asked.
    pub operations: Operations,
    /// Where it runs.
    pub deployments: Vec<Arc<Deployment>>,
    /// Its whole stack.
    pub stack: Arc<Fallback>,
}

/// All models.
#[derive(Default)]
pub struct Router {
    /// The models by name.
    pub models: Vec<Arc<Model>>,
    /// Who looks at images, if the configuration says so.
    pub vision: Option<String>,
    names: HashMap<String, Arc<Model>>,
    default: Option<String>,
}

impl Router {
    /// Routes to these models; calls that name none go to `default`, or to the first that can answer.
    ///
    /// # Errors
    /// `Config` for a name that two models bear, or a default that is none.
    pub fn new(models: Vec<Arc<Model>>, default: Option<String>) -> Result<Router> {
        let mut names = HashMap::new();
        for model in &models {
            for name in std::iter::once(&*model.name).chain(model.aliases.iter().map(String::as_str)) {
                if names.insert(name.to_owned(), model.clone()).is_some() {
                    return Err(Error::config(format!("two models are called {name}")).at("models"));
                }
            }
        }
        if let Some(name) = default.as_ref().filter(|name| !names.contains_key(*name)) {
            return Err(Error::config(format!("no such model: {name}")).at("default_model"));
        }
        Ok(Router { models, vision: None, names, default })
    }

    /// The model that a call means.
    ///
    /// # Errors
    /// `NotFound` with the names there are; `Unsupported` with the models that can.
    pub fn find(&self, name: &str, operation: Operation) -> Result<&Arc<Model>> {
        let model = match name {
            "" => self.default_for(operation),
            name => self.names.get(name).or_else(|| self.specialist(name, operation)).or_else(|| self.names.get(ANY)),
        };
        let model = model.ok_or_else(|| self.unknown(name, operation))?;
        if model.operations.contains(operation) { Ok(model) } else { Err(self.cannot(model, operation)) }
    }

    /// Whether a model of the configuration bears this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether calls that name no model mean this one, if it can.
    pub fn is_default(&self, name: &str) -> bool {
        self.default.as_deref() == Some(name)
    }

    fn default_for(&self, operation: Operation) -> Option<&Arc<Model>> {
        let able = |model: &&Arc<Model>| model.operations.contains(operation);
        let named = self.default.as_ref().and_then(|name| self.names.get(name)).filter(able);
        named.or_else(|| self.models.iter().find(able))
    }

    /// A model for this purpose: one that is ready, if there is one.
    fn specialist(&self, purpose: &str, operation: Operation) -> Option<&Arc<Model>> {
        let is_for = |m: &&Arc<Model>| m.specialization.as_deref() == Some(purpose) && m.operations.contains(operation);
        let is_ready = |m: &&Arc<Model>| m.deployments.iter().any(|d| d.status() == Status::Ready);
        let all = || self.models.iter().filter(is_for);
        all().find(is_ready).or_else(|| all().next())
    }

    fn able(&self, operation: Operation) -> String {
        let able = self.models.iter().filter(|m| m.operations.contains(operation));
        let names: Vec<_> = able.map(|m| m.name.to_string()).collect();
        if names.is_empty() {
            format!("none here; providers that can: {}", hosts::able(operation))
        } else {
            names.join(", ")
        }
    }

    fn unknown(&self, name: &str, operation: Operation) -> Error {
        if name.is_empty() {
            let mut hosts = self.models.iter().flat_map(|model| &model.deployments);
            let message = if hosts.any(|host| host.provider.serves().contains(operation)) {
                format!(
                    "no model here is there to {operation}, though a host of them can: name one for it (OPENAI_EMBEDDING_MODEL=..)"
                )
            } else {
                format!("no model here can {operation}; providers that can: {}", hosts::able(operation))
            };
            return Error::new(Kind::Unsupported, message).param("model");
        }
        let name: String = name.chars().take(100).collect();
        let message = format!("no such model: {name}; models that can {operation}: {}", self.able(operation));
        Error::new(Kind::NotFound, message).code("model_not_found").param("model")
    }

    fn cannot(&self, model: &Model, operation: Operation) -> Error {
        let message = format!("{} cannot {operation}; models that can: {}", model.name, self.able(operation));
        Error::new(Kind::Unsupported, message).param("model")
    }
}

impl Provider for Router {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        match self.find(&call.model, call.operation) {
            Ok(model) => {
                if call.model.is_empty() && *model.name != *ANY {
                    call.context.tell(|p| p.model = Some(model.name.clone()));
                }
                model.stack.call(call)
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn serves(&self) -> Operations {
        self.models.iter().fold(Operations::NONE, |all, m| all | m.operations)
    }
}

//! Configuration becomes parts: deployments in their policies, models in theirs, and a router over them.
use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Table;

use super::config::{Config, DeploymentConfig, ModelConfig};
use super::env::ENGINE;
use crate::call::{Operation, Operations, Provider};
use crate::error::{Error, Result};
use crate::policy::{self, Keep, Level, Observer};
use crate::provider::{self, Kind};
use crate::route::fallback::Named;
use crate::route::health;
use crate::route::router::ANY;
use crate::route::selection::Candidate;
use crate::route::{Deployment, Dimensions, Fallback, Model, Router, Selection};

/// The models of a configuration; an error about a setting that a variable gave names the variable.
pub(super) fn router(config: &Config, kinds: &[Kind], observer: &Arc<dyn Observer>, keep: &mut Keep) -> Result<Router> {
    models(config, kinds, observer, keep).map_err(|error| config.origins.tell(error))
}

fn models(config: &Config, kinds: &[Kind], observer: &Arc<dyn Observer>, keep: &mut Keep) -> Result<Router> {
    let mut models = BTreeMap::new();
    for (name, part) in &config.models {
        let builder = Builder { config, name, part, kinds, observer };
        models.insert(name.clone(), builder.model(keep).map_err(|e| e.at(format!("models.{name}")))?);
    }
    for (name, part) in &config.models {
        let step_in = |other: &String| {
            let wrong = |why: String| Error::config(why).at(format!("models.{name}.fallback"));
            let model: &Arc<Model> = models.get(other).ok_or_else(|| wrong(format!("no such model: {other}")))?;
            let shared = model.operations.iter().filter(|o| o.takes_turn() && models[name].operations.contains(*o));
            if shared.count() == 0 {
                return Err(wrong(format!("{other} can do nothing of what {name} is asked")));
            }
            // Whoever answers, vectors of another length are none of this model's.
            let stack = held_to(part.dimensions, model.stack.alone());
            Ok(Named { name: model.name.clone(), may: model.operations, stack })
        };
        models[name].stack.steps_in(part.fallback.iter().map(step_in).collect::<Result<_>>()?);
    }
    check_vision(config)?;
    check_specializations(config)?;
    let seeing = config.models.iter().find(|(_, model)| model.vision).map(|(name, _)| name);
    let vision = config.vision_model.as_ref().or(seeing).cloned();
    let mut router = Router::new(models.into_values().collect(), config.default_model.clone())?;
    router.vision = vision;
    // Nothing can go wrong any more: what is shared with the configuration before may change now.
    for model in &router.models {
        let drains = config.models[&*model.name].deployments.iter().map(|deployment| deployment.drain);
        model.deployments.iter().zip(drains).for_each(|(deployment, drains)| deployment.drain(drains));
        model.stack.takes_over();
    }
    Ok(router)
}

/// A router to one provider that somebody built by hand, under every name, with the policies as they are by default.
pub(super) fn only(provider: Arc<dyn Provider>, observer: &Arc<dyn Observer>, keep: &mut Keep) -> Result<Router> {
    let deployment = Arc::new(Deployment::new(ANY.into(), None, provider.clone()));
    let plain = |_: &str| Table::new();
    let stack = policy::wrap_all(Level::Deployment, provider, ANY, plain, keep, observer)?;
    let selection: Arc<dyn Provider> =
        Arc::new(Selection::new(vec![Candidate { deployment: deployment.clone(), stack }])?);
    let operations = selection.serves();
    let stack = policy::wrap_all(Level::Model, selection, ANY, plain, keep, observer)?;
    let deployments = vec![deployment];
    let (name, stack) = (ANY.into(), Arc::new(Fallback::new(stack, deployments.clone())));
    let (aliases, specialization, context_window) = Default::default();
    let model = Model { name, aliases, specialization, context_window, operations, deployments, stack };
    Router::new(vec![Arc::new(model)], Some(ANY.into()))
}

/// A word for what models are for is asked for like a name, so it must not be one.
fn check_specializations(config: &Config) -> Result<()> {
    for (name, model) in &config.models {
        let Some(word) = &model.specialization else { continue };
        let wrong = |why: String| Err(Error::config(why).at(format!("models.{name}.specialization")));
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return wrong(format!("{word:?} must be one word of small letters, digits and hyphens: python-coding"));
        }
        let is_name = |(id, other): (&String, &ModelConfig)| id == word || other.aliases.contains(word);
        if config.models.iter().any(is_name) {
            return wrong(format!("{word} is the name of a model; one of the two needs another"));
        }
    }
    Ok(())
}

fn check_vision(config: &Config) -> Result<()> {
    let Some(name) = &config.vision_model else { return Ok(()) };
    let named = config.models.iter().find(|(id, model)| *id == name || model.aliases.contains(name));
    match named {
        Some((_, model)) if model.vision => Ok(()),
        Some(_) => Err(Error::config(format!("{name} needs `vision = true` in its own section")).at("vision_model")),
        None => Err(Error::config(format!("no such model: {name}")).at("vision_model")),
    }
}

struct Builder<'a> {
    config: &'a Config,
    name: &'a str,
    part: &'a ModelConfig,
    kinds: &'a [Kind],
    observer: &'a Arc<dyn Observer>,
}

impl Builder<'_> {
    fn model(&self, keep: &mut Keep) -> Result<Arc<Model>> {
        let identities = self.identities()?;
        let names = self.names(&identities, keep);
        let all = self.part.deployments.iter().zip(identities).zip(names);
        let candidates = all.enumerate().map(|(i, ((part, identity), name))| {
            self.candidate(part, identity, name, keep).map_err(|error| self.placed(error, i))
        });
        let candidates: Vec<Candidate> = candidates.collect::<Result<_>>()?;
        let deployments: Vec<_> = candidates.iter().map(|c| c.deployment.clone()).collect();
        let selection: Arc<dyn Provider> = Arc::new(Selection::new(candidates)?);
        let operations = self.operations(selection.serves())?;
        self.check_abilities(operations)?;
        let section = |name: &str| section(name, [&self.part.policies, &self.config.policies]);
        let selection = held_to(self.part.dimensions, selection);
        let stack = policy::wrap_all(Level::Model, selection, self.name, section, keep, self.observer)?;
        let (name, aliases) = (self.name.into(), self.part.aliases.clone());
        let (specialization, context_window) = (self.part.specialization.clone(), self.part.context_window);
        let stack = Arc::new(Fallback::new(stack, deployments.clone()));
        Ok(Arc::new(Model { name, aliases, specialization, context_window, operations, deployments, stack }))
    }

    /// What is said of a model must be about something that it does.
    fn check_abilities(&self, operations: Operations) -> Result<()> {
        let wrong = |why: &str, setting: &str| Err(Error::config(why).at(setting));
        match self.part.dimensions {
            Some(0) => return wrong("vectors have at least 1 dimension", "dimensions"),
            Some(_) if !operations.contains(Operation::Embed) => {
                return wrong("this model makes no vectors", "dimensions");
            }
            _ => {}
        }
        if self.part.vision && !operations.contains(Operation::Chat) {
            return wrong("a model that sees is asked in conversations, and this one may not chat", "vision");
        }
        Ok(())
    }

    /// An error of a deployment among several, if it is about the deployment's own settings.
    fn placed(&self, error: Error, at: usize) -> Error {
        let first = error.place().split('.').next().unwrap_or_default().to_owned();
        let is_section = policy::POLICIES.iter().any(|policy| policy.name == first) || first == health::Config::SECTION;
        let is_its_own = !is_section || self.part.deployments[at].policies.contains_key(&first);
        if self.part.deployments.len() > 1 && is_its_own { error.at(format!("deployments.{at}")) } else { error }
    }

    /// What each deployment is: while that is the same, so are its connections, its health and its weights, wherever it
    /// stands in the list. Two that are alike are told apart by their order.
    fn identities(&self) -> Result<Vec<String>> {
        let mut known = Vec::new();
        for (i, part) in self.part.deployments.iter().enumerate() {
            let health = self.health(part).map_err(|error| self.placed(error, i))?;
            let (provider, model, operations) = (&part.provider, &part.model, &self.part.operations);
            let name = self.name;
            let text = format!("deployment {name} {provider} {model:?} {} {operations:?} {health:?}", part.settings);
            let alike = known.iter().filter(|(other, _)| *other == text).count();
            known.push((text, alike));
        }
        Ok(known.into_iter().map(|(text, alike)| format!("{text} {alike}")).collect())
    }

    /// What each is called: as before, if it is known, and else the model's name with the first number that is free,
    /// rather its place in the list.
    fn names(&self, identities: &[String], keep: &Keep) -> Vec<String> {
        let mut names: Vec<Option<String>> =
            identities.iter().map(|identity| Some(keep.find::<Deployment>(identity)?.name.clone())).collect();
        for place in 0..names.len() {
            if names[place].is_none() {
                let alone = (names.len() == 1).then(|| self.name.to_owned());
                let numbered = std::iter::once(place).chain(0..).map(|number| format!("{}/{number}", self.name));
                names[place] = alone.into_iter().chain(numbered).find(|name| !names.contains(&Some(name.clone())));
            }
        }
        names.into_iter().flatten().collect()
    }

    fn candidate(&self, part: &DeploymentConfig, identity: String, name: String, keep: &mut Keep) -> Result<Candidate> {
        let kind = provider::find(&part.provider, self.kinds.iter()).map_err(|error| match &*part.provider {
            ENGINE => Error::config(
                "this program is built without the engine: set AI_PROVIDER, or VLLM_BASE_URL, to say who answers",
            )
            .at("provider"),
            _ => error,
        })?;
        let health = self.health(part)?;
        let deployment = keep.part(identity, || {
            let provider = (kind.build)(&part.settings)?;
            let named =
                |o: &Operation| self.part.operations.as_ref().is_none_or(|all| all.iter().any(|n| n == o.name()));
            let may = provider.serves().iter().filter(named).fold(Operations::NONE, |all, o| all | o.into());
            Ok(Deployment::with(name, self.model_there(part), provider, &health).may(may))
        })?;
        let section = |name: &str| section(name, [&part.policies, &self.part.policies, &self.config.policies]);
        let inner = deployment.provider.clone();
        let stack = policy::wrap_all(Level::Deployment, inner, &deployment.name, section, keep, self.observer)?;
        Ok(Candidate { deployment, stack })
    }

    fn health(&self, part: &DeploymentConfig) -> Result<health::Config> {
        let name = health::Config::SECTION;
        let section = section(name, [&part.policies, &self.part.policies, &self.config.policies]);
        let config: health::Config = provider::settings(&section).map_err(|e| e.at(name))?;
        config.check().map_err(|e| e.at(name))?;
        Ok(config)
    }

    fn model_there(&self, part: &DeploymentConfig) -> Option<Arc<str>> {
        let name = part.model.as_deref().unwrap_or(self.name);
        (name != ANY).then(|| name.into())
    }

    fn operations(&self, able: Operations) -> Result<Operations> {
        let Some(wanted) = &self.part.operations else { return Ok(able) };
        let mut operations: Operations = [Operation::Tokenize, Operation::Detokenize, Operation::Models].into();
        for name in wanted {
            let known = Operation::ALL.into_iter().find(|o| o.name() == name);
            let known = known.ok_or_else(|| Error::config(format!("no such operation: {name}")).at("operations"))?;
            if !able.contains(known) {
                let able = crate::provider::hosts::able(known);
                return Err(
                    Error::config(format!("its deployments cannot {name}; those that can: {able}")).at("operations")
                );
            }
            operations = operations | known.into();
        }
        Ok(operations)
    }
}

fn held_to(dimensions: Option<u32>, stack: Arc<dyn Provider>) -> Arc<dyn Provider> {
    match dimensions {
        Some(dimensions) => Arc::new(Dimensions::new(stack, dimensions)),
        None => stack,
    }
}

/// The nearest section with this name.
fn section<const N: usize>(name: &str, nearest_first: [&Table; N]) -> Table {
    let found = nearest_first.into_iter().find_map(|policies| policies.get(name)?.as_table());
    found.cloned().unwrap_or_default()
}

//! From variables to models: where each purpose's host is, which of its models it is, and what that is called here.
use toml::{Table, Value};

use super::config::{Config, DeploymentConfig, ModelConfig};
use super::env::{Choice, ENGINE, Reach, cannot};
use super::family::{self, EMBEDDING, Purpose, TEXT};
use super::lookup::{Env, Found};
use crate::call::Operation;
use crate::error::{Error, Result};
use crate::provider::hosts;
use crate::provider::http::{Host, Own};
use crate::route::router::ANY;

/// The models that the environment names, as far as they are found.
pub(super) struct Places<'e> {
    env: &'e Env<'e>,
    config: Config,
    /// The purposes that the model of every name is not for.
    elsewhere: Vec<&'static [Operation]>,
}

/// A host and its settings, and which variable gave which.
#[derive(Default)]
struct Place {
    settings: Table,
    variables: Vec<(&'static str, String)>,
}

impl<'e> Places<'e> {
    pub(super) fn new(env: &'e Env<'e>) -> Places<'e> {
        Places { env, config: Config::default(), elsewhere: Vec::new() }
    }

    /// Adds who serves a purpose, if anybody does.
    pub(super) fn add(&mut self, purpose: &'static Purpose, choice: &Choice) -> Result<()> {
        match hosts::find(&choice.provider) {
            Some(host) if purpose.suits(host) => self.add_hosted(purpose, choice, host),
            Some(_) if choice.reach == Reach::Own => Err(cannot(purpose, choice)),
            Some(_) => Ok(()),
            None if choice.provider == ENGINE => self.add_engine(purpose, choice),
            None => {
                self.add_other(purpose, choice);
                Ok(())
            }
        }
    }

    /// The configuration; the model of every name is for what no other is for.
    pub(super) fn finish(mut self) -> Result<Config> {
        self.tokenizer()?;
        let elsewhere: Vec<Operation> = self.elsewhere.into_iter().flatten().copied().collect();
        if let Some(any) = self.config.models.get_mut(ANY).filter(|_| !elsewhere.is_empty()) {
            let host = hosts::find(&any.deployments[0].provider).expect("only hosts take every name");
            let left = host.serves.iter().filter(|operation| operation.takes_turn() && !elsewhere.contains(operation));
            any.operations = Some(left.map(|operation| operation.name().to_owned()).collect());
        }
        Ok(self.config)
    }

    fn add_hosted(&mut self, purpose: &'static Purpose, choice: &Choice, host: &'static Host) -> Result<()> {
        let place = self.place(purpose, host)?;
        let named = self.env.get(&purpose.model_variables(host))?;
        let beside = self.beside(host, &place);
        match named {
            Some(found) => self.named(purpose, choice, place, found.value, found.variable),
            None if purpose.is_text() => self.insert(ANY, purpose, choice, place, None),
            None if beside.as_deref() == Some(ANY) => self.shared(ANY, purpose, choice),
            None if beside.is_some() && purpose.is_vision() && choice.reach == Reach::Own => {
                self.shared(&beside.unwrap_or_default(), purpose, choice);
            }
            None if beside.is_some() || host.has_many_models => {
                let variable = &purpose.model_variables(host)[0];
                let missing = || Error::config(format!("is missing: which model of {} is it?", host.name)).at(variable);
                return if choice.reach == Reach::Own { Err(missing()) } else { Ok(()) };
            }
            None => self.insert(purpose.name, purpose, choice, place, Some(String::new())),
        }
        self.dimensions(purpose, host)
    }

    fn place(&self, purpose: &Purpose, host: &Host) -> Result<Place> {
        let mut place = Place::default();
        if let Some(url) = self.env.get(&purpose.url_variables(host))? {
            place.set("base_url", whole_url(&url.value, host), url.variable);
        }
        for (setting, name) in [("api_key", host.key_variable()), ("ca_file", family::ca_variable(host))] {
            match self.env.get(&[&name])? {
                Some(found) => place.set(setting, found.value, found.variable),
                None => place.variables.push((setting, name)), // so that an error says what to set
            }
        }
        for own in host.own {
            if let Some(found) = self.env.get(&[own.variable])? {
                place.set_own(own, &found)?;
            }
        }
        match host.base_url.is_some() || place.settings.contains_key("base_url") {
            true => Ok(place),
            false => Err(Error::config("is missing: where is the host? Example: http://localhost:8000/v1")
                .at(&purpose.url_variables(host)[if purpose.is_text() { 0 } else { 1 }])),
        }
    }

    /// The model for text, if it is at this place.
    fn beside(&self, host: &Host, place: &Place) -> Option<String> {
        let name = self.config.default_model.as_ref()?;
        let deployment = &self.config.models.get(name)?.deployments[0];
        (deployment.provider == host.name && deployment.settings == place.settings).then(|| name.clone())
    }

    /// A model that a variable names. Two places may have models of one name; the second then goes by its purpose.
    fn named(&mut self, purpose: &'static Purpose, choice: &Choice, place: Place, name: String, variable: String) {
        let known = self.config.models.get_mut(&name);
        let is_same = |m: &ModelConfig| {
            let there = &m.deployments[0];
            there.provider == choice.provider && there.settings == place.settings
        };
        let key = match known {
            Some(model) if is_same(model) => {
                let operations = model.operations.get_or_insert_default();
                let more = purpose.operations.iter().map(|o| o.name().to_owned());
                operations.extend(more.filter(|o| !operations.contains(o)).collect::<Vec<_>>());
                return self.shared(&name, purpose, choice);
            }
            Some(_) => purpose.name.to_owned(),
            None => name.clone(),
        };
        let there = (key != name).then_some(name);
        self.insert(&key, purpose, choice, place, there);
        let first = ["default_model", "vision_model"].into_iter().zip([purpose.is_text(), purpose.is_vision()]);
        for (path, _) in first.filter(|(_, is_first)| *is_first) {
            self.config.origins.note(path, variable.clone());
        }
        self.config.origins.note(format!("models.{key}.operations"), variable);
    }

    /// A model that is there serves this purpose too.
    fn shared(&mut self, key: &str, purpose: &Purpose, choice: &Choice) {
        let Some(model) = self.config.models.get_mut(key).filter(|_| purpose.is_vision()) else { return };
        // Nobody knows whether a model sees that nobody said it of.
        if choice.reach == Reach::Own || key != ANY {
            model.vision = true;
            self.config.vision_model = Some(key.to_owned());
        }
    }

    fn insert(&mut self, key: &str, purpose: &'static Purpose, choice: &Choice, place: Place, there: Option<String>) {
        let is_any = key == ANY;
        let operations = (!is_any).then(|| words(purpose.operations, &choice.provider));
        let deployment = DeploymentConfig {
            provider: choice.provider.clone(),
            model: there,
            settings: place.settings,
            ..DeploymentConfig::default()
        };
        let vision = purpose.is_vision();
        let model = ModelConfig { operations, vision, deployments: vec![deployment], ..ModelConfig::default() };
        self.config.models.insert(key.to_owned(), model);
        self.note(key, choice, place.variables);
        match purpose {
            _ if purpose.is_text() => self.config.default_model = Some(key.to_owned()),
            _ if vision => self.config.vision_model = Some(key.to_owned()),
            _ => self.elsewhere.push(purpose.operations),
        }
    }

    fn note(&mut self, key: &str, choice: &Choice, variables: Vec<(&'static str, String)>) {
        if !choice.variable.is_empty() {
            self.config.origins.note(format!("models.{key}.provider"), choice.variable.clone());
        }
        for (setting, variable) in variables {
            self.config.origins.note(format!("models.{key}.{setting}"), variable);
        }
    }

    fn dimensions(&mut self, purpose: &Purpose, host: &Host) -> Result<()> {
        let Some(found) =
            self.env.get(&[family::dimensions_variable(host)])?.filter(|_| purpose.word == EMBEDDING.word)
        else {
            return Ok(());
        };
        let embeds =
            |m: &ModelConfig| m.operations.as_ref().is_none_or(|o| o.iter().any(|o| o == Operation::Embed.name()));
        let mine = |m: &ModelConfig| m.deployments[0].provider == host.name && embeds(m);
        // The one that is for nothing else, if there is one.
        let model = self.config.models.iter_mut().filter(|(_, m)| mine(m)).max_by_key(|(_, m)| m.operations.is_some());
        if let Some((key, model)) = model {
            model.dimensions = Some(found.number()?);
            self.config.origins.note(format!("models.{key}.dimensions"), found.variable);
        }
        Ok(())
    }

    /// It is that of the model for text: hosts have other models for other purposes.
    fn tokenizer(&mut self) -> Result<()> {
        let Some(key) = &self.config.default_model else { return Ok(()) };
        let Some(there) = self.config.models.get_mut(key).and_then(|model| model.deployments.first_mut()) else {
            return Ok(());
        };
        let Some(host) = hosts::find(&there.provider) else { return Ok(()) };
        if let Some(found) = self.env.get(&[family::tokenizer_variable(host)])? {
            there.settings.insert("tokenizer".into(), found.value.into());
            self.config.origins.note(format!("models.{key}.tokenizer"), found.variable);
        }
        Ok(())
    }

    /// The engine has a model for each purpose that it serves.
    fn add_engine(&mut self, purpose: &'static Purpose, choice: &Choice) -> Result<()> {
        let (key, default) = match purpose.word {
            word if word == TEXT.word => ("smollm2", "chat"),
            word if word == EMBEDDING.word => ("minilm", "embedding"),
            _ if choice.reach == Reach::Own => return Err(cannot(purpose, choice)),
            _ => return Ok(()),
        };
        let settings = Table::from_iter([("default".to_owned(), Value::from(default))]);
        self.insert(key, purpose, choice, Place { settings, variables: Vec::new() }, None);
        Ok(())
    }

    /// A provider without a host does everything with one model, which is called as it is.
    fn add_other(&mut self, purpose: &'static Purpose, choice: &Choice) {
        let key = choice.provider.as_str();
        if let Some(model) = self.config.models.get_mut(key) {
            let more = purpose.operations.iter().map(|o| o.name().to_owned());
            model.operations.iter_mut().for_each(|operations| operations.extend(more.clone()));
            return self.shared(key, purpose, choice);
        }
        self.insert(key, purpose, choice, Place::default(), None);
        if purpose.is_text() {
            // For whatever else it can, too.
            self.config.models.entry(key.to_owned()).and_modify(|model| model.operations = None);
        }
    }
}

impl Place {
    /// A setting that one host alone has; inside a table it is a number.
    fn set_own(&mut self, own: &'static Own, found: &Found) -> Result<()> {
        self.variables.push((own.setting, found.variable.clone()));
        let Some((table, name)) = own.setting.split_once('.') else {
            let value = found.value.parse::<i64>().map_or_else(|_| Value::from(found.value.clone()), Value::from);
            self.settings.insert(own.setting.to_owned(), value);
            return Ok(());
        };
        let table = self.settings.entry(table).or_insert_with(|| Table::new().into());
        let table = table.as_table_mut().expect("a setting with settings inside is a table");
        table.insert(name.to_owned(), found.number()?.into());
        Ok(())
    }

    fn set(&mut self, setting: &'static str, value: String, variable: String) {
        self.settings.insert(setting.to_owned(), value.into());
        self.variables.push((setting, variable));
    }
}

/// What a model is asked of a purpose, as far as its host can.
fn words(operations: &[Operation], provider: &str) -> Vec<String> {
    let can = |operation: &&Operation| hosts::find(provider).is_none_or(|host| host.operations().contains(**operation));
    operations.iter().filter(can).map(|operation| operation.name().to_owned()).collect()
}

/// `gpu` and `gpu:8000` as people write them; a host without its port is at the usual one.
fn whole_url(text: &str, host: &Host) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    let usual = host.base_url.and_then(|url| url.strip_prefix("http://")?.split('/').next()?.rsplit_once(':'));
    match usual {
        Some((_, port)) if !text.contains([':', '/']) => format!("http://{text}:{port}"),
        _ => format!("http://{text}"),
    }
}

//! `llm config`: every setting that holds, with where it came from; asks nobody, and shows no secret.
use clap::{ArgMatches, Args};
use llm_core::gateway::origins::Origin;
use llm_core::gateway::shown::{NOT_SET, Setting};
use llm_core::gateway::variables::{self, Section};
use serde_json::{Value, json};

use super::Command;
use crate::ask::parsed;
use crate::engine;
use crate::house::{House, Source};
use crate::output::Output;
use crate::runtime;
use crate::stop::{Run, Stop};

pub(super) const CONFIG: Command = Command {
    name: "config",
    about: "Show every setting that holds, and where it came from",
    args: |command| {
        Config::augment_args(command)
            .after_help("Examples:\n  llm config\n  llm config --json\n  llm config --env-example > .env")
    },
    run: |matches| runtime::block_on(run(matches)),
};

#[derive(Debug, Args)]
struct Config {
    /// A JSON array instead of a table
    #[arg(long)]
    json: bool,
    /// Print a .env file that explains every variable and sets none
    #[arg(long, conflicts_with = "json")]
    env_example: bool,
}

async fn run(matches: &ArgMatches) -> Run {
    let (config, source) = (parsed::<Config>(matches), parsed::<Source>(matches));
    if config.env_example {
        return Ok(Output::new().write(&variables::env_example(&sections())).await?);
    }
    let house = House::read(&source)?;
    let lines: Vec<Line> = settings(&house)?.into_iter().map(|setting| line(&house, setting)).collect();
    let text =
        if config.json { json!(lines.iter().map(object).collect::<Vec<_>>()).to_string() } else { table(&lines) };
    Ok(Output::new().line(&text).await?)
}

/// Every variable: the models' first, then those of the program around them.
fn sections() -> Vec<Section> {
    #[cfg(feature = "engine")]
    let engine = llm_engine::defaults::VARIABLES;
    #[cfg(not(feature = "engine"))]
    let engine = &[];
    let ours = llm_server::VARIABLES.iter().chain(engine).cloned().collect();
    let ours = Section { title: "The program and its server".into(), variables: ours };
    variables::sections().into_iter().chain([ours]).collect()
}

/// The models' settings, then the server's.
fn settings(house: &House) -> Run<Vec<Setting>> {
    let wrong = |e: serde_json::Error| Stop::from(llm_core::Error::new(llm_core::Kind::Internal, e.to_string()));
    let server = serde_json::to_value(&house.composed.server).map_err(wrong)?;
    let server = server.as_object().into_iter().flatten().map(|(name, value)| of_server(house, name, value));
    let mut all = house.composed.models.shown(&engine::kinds());
    all.extend(server);
    Ok(all)
}

/// Variables go before the file here, too.
fn of_server(house: &House, name: &str, value: &Value) -> Setting {
    let path = format!("server.{name}");
    let variable = llm_server::VARIABLES.iter().find(|variable| variable.setting == path);
    let is_set = |name: &str| house.found.iter().any(|found| found.name == name);
    let names = variable.map(|variable| [variable.name.to_string(), format!("{}_FILE", variable.name)]);
    let set = names.into_iter().flatten().find(|name| is_set(name)).map(Origin::Variable);
    let value = match (value, variable.is_some_and(|variable| variable.is_secret)) {
        (Value::Null, true) => NOT_SET.into(),
        (Value::Null, false) => "off".into(),
        (value, _) => value.clone(),
    };
    Setting { origin: set.or_else(|| house.composed.models.origins.get(&path).cloned()), value, path }
}

/// A setting as it is shown.
struct Line {
    path: String,
    value: Value,
    from: String,
}

fn line(house: &House, Setting { path, value, origin }: Setting) -> Line {
    let place = |name: &str| house.found.iter().find(|found| found.name == name).map(|found| found.origin.clone());
    let from = match origin {
        Some(Origin::Variable(name)) => match place(&name) {
            Some(place) => format!("{name}, {place}"),
            None => name,
        },
        Some(Origin::File(place)) => place,
        None if house.origin == "--url" && path.starts_with("models.") => house.origin.clone(),
        None => "default".to_owned(),
    };
    Line { path, value, from }
}

fn object(Line { path, value, from }: &Line) -> Value {
    json!({ "setting": path, "value": value, "from": from })
}

fn table(lines: &[Line]) -> String {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let value = |value: &Value| text(value).unwrap_or_else(|| value.to_string());
    let cells = |line: &Line| [line.path.clone(), value(&line.value), line.from.clone()];
    let lines: Vec<_> =
        [["SETTING", "VALUE", "FROM"].map(str::to_owned)].into_iter().chain(lines.iter().map(cells)).collect();
    let width = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let shown = |[path, value, from]: &[String; 3]| format!("{path:first$}  {value:second$}  {from}");
    lines.iter().map(shown).collect::<Vec<_>>().join("\n")
}

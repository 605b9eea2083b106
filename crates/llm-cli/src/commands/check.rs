//! `llm check`: reads the configuration, asks everybody in it, and says what works and how to mend what does not.
use std::fmt::Write;

use clap::ArgMatches;
use llm_core::{DeploymentConfig, Error, Llm};

use super::Command;
use crate::ask::parsed;
use crate::exit::Exit;
use crate::house::{House, Source, place};
use crate::output::Output;
use crate::stop::{Run, Stop};
use crate::{engine, remedy, runtime};

pub(super) const CHECK: Command = Command {
    name: "check",
    about: "Say what works, where each setting comes from, and how to mend the rest",
    args: |command| {
        command.after_help("Asks every server for its models, which costs no token. The exit code is that of the first thing that does not work.")
    },
    run: |matches| runtime::block_on(run(matches)),
};

async fn run(matches: &ArgMatches) -> Run {
    let house = House::read(&parsed::<Source>(matches))?;
    let mut out = Output::new();
    out.write(&settings(&house)).await?;
    house.composed.check()?;
    let llm = house.llm()?;
    let findings = findings(&house, &llm).await;
    out.write(&findings.iter().map(Finding::lines).collect::<String>()).await?;
    verdict(&findings)
}

fn settings(house: &House) -> String {
    let mut text = format!("settings from: {}\n", house.origin);
    let width = house.found.iter().map(|found| found.name.len()).max().unwrap_or(0);
    for found in &house.found {
        let _ = writeln!(text, "  {:width$}  {}  ({})", found.name, found.value, found.origin);
    }
    text
}

/// How one deployment is.
struct Finding {
    name: String,
    place: String,
    end: Result<(), Error>,
    /// The code that asking it would end with.
    exit: Exit,
}

async fn findings(house: &House, llm: &Llm) -> Vec<Finding> {
    let answers = llm.health().await.into_iter();
    let deployments = house.composed.models.models.values().flat_map(|model| &model.deployments);
    let finding = |((name, answer), deployment): ((String, Result<(), Error>), &DeploymentConfig)| {
        // A model of this process is not loaded for this; its file says whether it could be.
        let file = engine::file(deployment);
        let of = if file.is_some() { |_: &Error| Exit::NoModel } else { Exit::of };
        let end = file.map_or(answer, |file| file.map(drop));
        Finding { name, place: place(deployment), exit: end.as_ref().map_or_else(of, |()| Exit::Ok), end }
    };
    answers.zip(deployments).map(finding).collect() // both in the order of the configuration
}

impl Finding {
    fn lines(&self) -> String {
        let Finding { name, place, end, .. } = self;
        let Err(error) = end else { return format!("ok    {name}: {place}\n") };
        let mend = remedy::of(error).map(|mend| format!("      {mend}\n")).unwrap_or_default();
        format!("FAIL  {name}: {place}\n      {error}\n{mend}")
    }
}

fn verdict(findings: &[Finding]) -> Run {
    let failed: Vec<_> = findings.iter().filter(|finding| finding.end.is_err()).collect();
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Stop::new(first.exit, format!("{} of {} do not work", failed.len(), findings.len()))),
    }
}

//! Brings models into the user's data folder, while somebody watches: the default ones with pip, any other by its address.
use std::io::Write;
use std::path::PathBuf;

use clap::{ArgMatches, Args};
use indicatif::{ProgressBar, ProgressStyle};
use llm_core::gateway::dotenv::Environment;
use llm_engine::defaults::{Download, MODELS, Model, Progress, Stage, Store};

use crate::ask::parsed;
use crate::exit::Exit;
use crate::runtime;
use crate::stop::{Run, Stop};
use crate::talk;

#[derive(Debug, Args)]
pub(super) struct Fetch {
    /// Which: chat, embedding, a name, or the https:// address of a .gguf file; by default both default ones
    #[arg(value_name = "MODEL")]
    names: Vec<String>,
}

pub(super) fn command() -> clap::Command {
    let what = |model: &Model| {
        let size = model.download_bytes.div_ceil(1_000_000);
        format!(
            "  {:<10} {}, {}, {size} MB to download\n             {}",
            model.role, model.name, model.license, model.about
        )
    };
    let models: Vec<_> = MODELS.iter().map(what).collect();
    let models = format!("Models:\n{}", models.join("\n"));
    clap::Command::new("fetch").about("Bring the default models into the user's data folder").after_help(models)
}

pub(super) fn run(matches: &ArgMatches) -> Run {
    let wanted = wanted(&parsed::<Fetch>(matches).names)?;
    let environment = Environment::of_process()?;
    let store = Store::from_env(|name| environment.get(name))?;
    for wanted in wanted {
        let path = match wanted {
            Wanted::Default(model) => fetch(&store, model)?,
            Wanted::At(download) => bring(&store, &download)?,
        };
        writeln!(std::io::stdout(), "{}", path.display())?;
    }
    Ok(())
}

enum Wanted {
    Default(&'static Model),
    At(Box<Download>),
}

fn wanted(names: &[String]) -> Run<Vec<Wanted>> {
    if names.is_empty() {
        return Ok(MODELS.iter().map(Wanted::Default).collect());
    }
    names.iter().map(|name| named(name)).collect()
}

fn named(name: &str) -> Run<Wanted> {
    if name.contains("://") {
        return Ok(Wanted::At(Box::new(Download::new(name)?)));
    }
    let unknown = || {
        let known: Vec<_> = MODELS.iter().map(|model| model.role).collect();
        Stop::new(Exit::NoModel, format!("no such model: {name}; there are {}", known.join(", ")))
    };
    Model::find(name).map(Wanted::Default).ok_or_else(unknown)
}

fn fetch(store: &Store, model: &Model) -> Run<PathBuf> {
    if let Some(path) = store.installed(model) {
        talk::note(&format!("{} is here already", model.name));
        return Ok(path);
    }
    let mut shown = Shown::new(model.name);
    let path = store.fetch(model, &mut |step| shown.step(step))?;
    shown.bar.finish_and_clear();
    talk::note(&format!("{} is here: {}", model.name, model.about));
    Ok(path)
}

fn bring(store: &Store, download: &Download) -> Run<PathBuf> {
    let mut shown = Shown::new(download.file_name().unwrap_or("the model"));
    let mut path = PathBuf::new();
    runtime::block_on(async {
        path = store.download(download, &mut |step| shown.step(step)).await?;
        Ok(())
    })?;
    shown.bar.finish_and_clear();
    talk::note("name it as `path` of a model with `provider = \"engine\"`, in a file for --config:");
    Ok(path)
}

/// A bar where someone is looking, a line per stage elsewhere.
struct Shown<'a> {
    bar: ProgressBar,
    name: &'a str,
    stage: Option<Stage>,
}

impl Shown<'_> {
    fn new(name: &str) -> Shown<'_> {
        Shown { bar: ProgressBar::new(0), name, stage: None }
    }

    fn step(&mut self, step: Progress) {
        if self.stage.replace(step.stage) != Some(step.stage) {
            self.begin(&step);
        }
        self.bar.set_length(step.total);
        self.bar.set_position(step.done);
    }

    fn begin(&mut self, step: &Progress) {
        let bar = "{msg} [{bar:24}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        let template = if step.total > 0 { bar } else { "{msg} {spinner}" };
        let style = ProgressStyle::with_template(template).expect("the template is right").progress_chars("=> ");
        self.bar.reset();
        self.bar.set_style(style);
        self.bar.set_message(format!("{} {}", step.stage.name(), self.name));
        if !talk::is_watched() {
            talk::note(&format!("{}: {}", self.name, step.stage.name()));
        }
    }
}

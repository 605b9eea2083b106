//! The models that run in this process: their kind of provider, and loading them while somebody watches.
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use llm_core::gateway::env::ENGINE;
use llm_core::provider::Kind;
use llm_core::{DeploymentConfig, Life, LifeStatus, Llm, Operation, Result};

use crate::exit::Exit;
use crate::stop::{Run, Stop};

/// The kinds of provider beyond the core's own.
pub(crate) fn kinds() -> Vec<Kind> {
    #[cfg(feature = "engine")]
    return vec![llm_engine::KIND];
    #[cfg(not(feature = "engine"))]
    return Vec::new();
}

/// A deployment's model file, if it is there and sound; `None` for models that run elsewhere.
pub(crate) fn file(deployment: &DeploymentConfig) -> Option<Result<PathBuf>> {
    (deployment.provider == ENGINE).then(|| check(deployment))
}

#[cfg(not(feature = "engine"))]
fn check(_: &DeploymentConfig) -> Result<PathBuf> {
    Err(llm_core::Error::config("this program was built without the engine"))
}

#[cfg(feature = "engine")]
fn check(deployment: &DeploymentConfig) -> Result<PathBuf> {
    let config: llm_engine::Config = llm_core::provider::settings(&deployment.settings)?;
    let path = config.file()?;
    llm_engine::gguf::check(&path).map(|_| path)
}

/// Loads what this question needs and nothing else; what runs elsewhere is always ready.
pub(crate) async fn ready(llm: &Llm, model: &str, operation: Operation) -> Run {
    let router = llm.gateway().router();
    let model = router.find(model, operation)?;
    for deployment in &model.deployments {
        if let Some(life) = deployment.provider.life() {
            load(life, &model.name).await?;
        }
    }
    Ok(())
}

async fn load(life: &dyn Life, name: &str) -> Run {
    let bar = bar(name);
    let mut clock = tokio::time::interval(Duration::from_millis(50));
    let mut loading = life.load();
    let loaded = loop {
        tokio::select! {
            loaded = &mut loading => break loaded,
            _ = clock.tick() => show(&bar, &life.status()),
        }
    };
    bar.finish_and_clear();
    loaded.map_err(|error| Stop::from(error).with_exit(Exit::NoModel))
}

fn show(bar: &ProgressBar, status: &LifeStatus) {
    if let LifeStatus::Loading(share) = status {
        bar.set_position((share * 100.0) as u64);
    }
}

/// On stderr, and only where someone is looking.
fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("loading {msg} [{bar:30}] {percent} %").expect("the template is right");
    ProgressBar::new(100).with_style(style.progress_chars("=> ")).with_message(name.to_owned())
}

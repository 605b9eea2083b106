//! A door: whoever is asked, and what can be seen of it from outside.

use llm_core::{Config, Gateway, Life, Llm, Operation, Operations, Provider, Result};

use super::{CHAT, EMBED, Story};
use crate::house::House;
use crate::vllm::Vllm;

/// How many answers are being made, as those who make them see it.
pub type Running = fn() -> usize;

/// Whoever is asked.
pub struct Door {
    pub(super) name: &'static str,
    pub(super) llm: Llm,
    pub(super) running: Running,
    /// Stories that the models behind it cannot tell, although they serve the operation.
    pub(super) lacks: &'static [&'static str],
    serves: Operations,
    _behind: Option<House>,
}

impl Door {
    /// These models, called `chat` and `embed`.
    pub fn new(name: &'static str, llm: Llm, lacks: &'static [&'static str], running: Running) -> Door {
        let serves = llm.gateway().serves();
        Door { name, llm, running, lacks, serves, _behind: None }
    }

    /// Our server in front of these models, asked over HTTP by another `Llm`: the stories end as they do without it.
    pub fn of_server(name: &'static str, house: House, lacks: &'static [&'static str], running: Running) -> Door {
        let url = house.url();
        let llm = llm(&hosts((&url, CHAT), (&url, EMBED)));
        let serves = house.gateway.serves();
        Door { name, llm, running, lacks, serves, _behind: Some(house) }
    }

    /// The real vLLMs that tests share.
    pub fn vllm(lacks: &'static [&'static str]) -> Door {
        Door::new("vLLM", llm(&vllms()), lacks, || Vllm::chat().running())
    }

    /// Our server in front of them.
    pub async fn server_of_vllm(lacks: &'static [&'static str]) -> Result<Door> {
        let house = House::of(&vllms());
        ready(&house.gateway).await?;
        Ok(Door::of_server("our server before vLLM", house, lacks, || Vllm::chat().running()))
    }

    /// Whether the models behind it can be asked this.
    pub(super) fn serves(&self, operation: Operation) -> bool {
        self.serves.contains(operation)
    }

    /// Whether this story ends well here.
    pub(super) fn can(&self, story: &Story) -> bool {
        self.serves(story.asks) && !self.lacks.contains(&story.name)
    }
}

/// Loads what must be loaded, and asks all others how they are, as a server does when it starts.
///
/// # Errors
/// Of whoever is not well.
pub async fn ready(gateway: &Gateway) -> Result<()> {
    let router = gateway.router();
    for deployment in router.models.iter().flat_map(|model| &model.deployments) {
        match deployment.provider.life() {
            Some(life) => Life::load(life).await?,
            None => deployment.probe().await?,
        }
    }
    Ok(())
}

fn vllms() -> String {
    let (chat, embed) = (Vllm::chat(), Vllm::embed());
    hosts((chat.base_url(), chat.model()), (embed.base_url(), embed.model()))
}

/// The configuration of two models on hosts that speak as vLLM does; any other name goes to the first.
fn hosts(chat: (&str, &str), embed: (&str, &str)) -> String {
    let model = |name: &str, (url, model): (&str, &str)| {
        format!("[models.{name}]\nprovider = 'vllm'\nbase_url = '{url}'\nmodel = '{model}'\n")
    };
    let any = format!("[models.'*']\nprovider = 'vllm'\nbase_url = '{}'\n", chat.0);
    format!("default_model = '{CHAT}'\n{}{}{any}", model(CHAT, chat), model(EMBED, embed))
}

fn llm(toml: &str) -> Llm {
    Llm::new(&Config::from_toml(toml).expect("a configuration of hosts")).expect("hosts")
}

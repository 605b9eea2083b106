//! What differs from host to host, as a row of data: code asks the row and never the host's name.
use std::sync::Arc;

use crate::call::{Operation, Operations, Provider};
use crate::dialect::{self, Dialect};

/// A host: where it is, what it can be asked, and its quirks.
///
/// ```
/// use llm_core::{Operation, provider::http::Host};
/// static OURS: Host = Host { name: "ours", prefix: "OURS", serves: &[Operation::Chat], ..Host::PLAIN };
/// assert!(OURS.operations().contains(Operation::Models) && !OURS.operations().contains(Operation::Embed));
/// assert_eq!((OURS.key_variable().as_str(), OURS.is_free()), ("OURS_API_KEY", true));
/// ```
#[derive(Debug)]
pub struct Host {
    /// What `provider = ".."` says.
    pub name: &'static str,
    /// One line for help and documents.
    pub about: &'static str,
    /// What its variables begin with: `VLLM` for `VLLM_BASE_URL`.
    pub prefix: &'static str,
    /// Other names of its variable for the base URL, which its own tools use.
    pub url_aliases: &'static [&'static str],
    /// The variable with its key, if it is not `.._API_KEY`.
    pub key_variable: Option<&'static str>,
    /// Where it usually is; `None` if the user must say.
    pub base_url: Option<&'static str>,
    /// It answers nobody without a key: so much is known before it is asked.
    pub needs_key: bool,
    /// Its list of models is long and its first model nobody's choice.
    pub has_many_models: bool,
    /// It answers `/v1/models`.
    pub lists_models: bool,
    /// What else it can be asked.
    pub serves: &'static [Operation],
    /// What it is asked in dialects other than OpenAI's: for each operation the one it is asked in first, and then those
    /// whose clients' bytes it takes as they are.
    pub native: &'static [(Operation, &'static dyn Dialect)],
    /// Settings that it alone has, beside those of every host.
    pub own: &'static [Own],
    /// It understands `stream_options.include_usage`.
    pub tells_usage: bool,
    /// What it calls a field of a conversation otherwise, `max_tokens` or `seed`: our name, and its own.
    pub renames: &'static [(&'static str, &'static str)],
    /// What was thought before tools were called, among the fields of a message: our name, and its own. It refuses the others.
    pub thoughts: &'static [(&'static str, &'static str)],
    /// Fields that it ignores without a word although it once knew them, and what it knows instead.
    pub ignores: &'static [(&'static str, &'static str)],
    /// Puts around it what its own API lacks and this machine can do.
    pub around: fn(Arc<dyn Provider>) -> Arc<dyn Provider>,
}

/// A setting of one host alone, which goes into every request that does not set it itself.
///
/// ```
/// use llm_core::provider::hosts;
/// let own = &hosts::find("ollama").unwrap().own[0];
/// assert_eq!((own.setting, own.field()), ("options.num_ctx", "options"));
/// ```
#[derive(Debug)]
pub struct Own {
    /// Its path, which is that of a request's field too: `keep_alive`, `options.num_ctx`.
    pub setting: &'static str,
    /// The variable that sets it.
    pub variable: &'static str,
    /// What it is for.
    pub about: &'static str,
}

impl Own {
    /// The field of a request that it is, or is inside of.
    pub fn field(&self) -> &'static str {
        self.setting.split('.').next().unwrap_or_default()
    }
}

impl Host {
    /// A host in somebody's own network that is asked as OpenAI is; the other rows say what they do differently.
    pub const PLAIN: Host = Host {
        name: "",
        about: "",
        prefix: "",
        url_aliases: &[],
        key_variable: None,
        base_url: None,
        needs_key: false,
        has_many_models: false,
        lists_models: true,
        serves: &[Operation::Chat, Operation::Complete, Operation::Embed],
        native: &[],
        own: &[],
        tells_usage: true,
        renames: &[],
        thoughts: &[("reasoning", "reasoning_content")],
        ignores: &[],
        around: |host| host,
    };

    /// A company's service, open to those with a key.
    pub const SERVICE: Host = Host { needs_key: true, has_many_models: true, thoughts: &[], ..Host::PLAIN };

    /// What it can be asked.
    pub fn operations(&self) -> Operations {
        let lists = if self.lists_models { Operation::Models.into() } else { Operations::NONE };
        self.serves.iter().fold(lists, |all, &operation| all | operation.into())
    }

    /// Whether a token of it costs nothing: no service's does, and where there are many models, one may have to be loaded
    /// for it.
    pub fn is_free(&self) -> bool {
        !self.needs_key && !self.has_many_models
    }

    /// The dialects that it may be asked this in, the one it likes best first.
    ///
    /// ```
    /// use llm_core::{Operation, provider::hosts};
    /// let names = |host: &str, operation| hosts::find(host).unwrap().speaks(operation).iter().map(|d| d.name()).collect::<Vec<_>>();
    /// assert_eq!(names("vllm", Operation::Chat), ["openai"]);
    /// assert_eq!(names("ollama", Operation::Chat), ["ollama", "ollama-generate"]);
    /// ```
    pub fn speaks(&self, operation: Operation) -> Vec<&'static dyn Dialect> {
        let native = self.native.iter().filter(|(known, _)| *known == operation).map(|(_, dialect)| *dialect);
        let native: Vec<_> = native.collect();
        if native.is_empty() { vec![dialect::openai()] } else { native }
    }

    /// The variable with its key.
    pub fn key_variable(&self) -> String {
        self.key_variable.map_or_else(|| format!("{}_API_KEY", self.prefix), str::to_owned)
    }
}

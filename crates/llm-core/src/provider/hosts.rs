//! Hosts, most of which speak OpenAI's dialect: a row of data each. A host's quirk is a field of its row, never an `if` in the path.
use std::sync::Arc;

use toml::Table;

use super::http::{Config, Host, Http, Own, tokens, top::Top};
use super::{Kind, settings};
use crate::call::{Operation, Operation::*, Provider};
use crate::dialect::{llama_server::LlamaServer, ollama::Ollama, tei::Tei};
use crate::error::Result;

/// Each row as a kind of provider, and all rows together.
macro_rules! hosts {
    ($($(#[$doc:meta])* $kind:ident = $row:expr;)*) => {
        $($(#[$doc])* pub const $kind: Kind = {
            const ROW: Host = $row;
            Kind { name: ROW.name, about: ROW.about, build: |table| build(&ROW, table), defaults: || defaults(&ROW) }
        };)*

        /// Every host, in the order in which documents list them.
        pub static HOSTS: &[Host] = &[$($row),*];
    };
}

hosts! {
    /// A vLLM server.
    VLLM = Host {
        name: "vllm",
        about: "a vLLM server",
        prefix: "VLLM",
        base_url: Some("http://127.0.0.1:8000"),
        serves: &[Chat, Complete, Embed, Rerank, Score, Tokenize, Detokenize],
        thoughts: &[("reasoning", "reasoning")],
        // Gone since 0.12.
        ignores: &[
            ("guided_json", "`response_format` with a `json_schema`, or `structured_outputs` with `json`"),
            ("guided_regex", "`structured_outputs` with `regex`"),
            ("guided_choice", "`structured_outputs` with `choice`"),
            ("guided_grammar", "`structured_outputs` with `grammar`"),
        ],
        ..Host::PLAIN
    };
    /// OpenAI itself.
    OPENAI = Host {
        name: "openai",
        about: "OpenAI's API",
        prefix: "OPENAI",
        base_url: Some("https://api.openai.com/v1"),
        renames: &[("max_tokens", "max_completion_tokens")], // its newer models refuse the older name
        around: OPENAI_TOKENS, // it has no route that counts
        ..Host::SERVICE
    };
    /// An Ollama server.
    OLLAMA = Host {
        name: "ollama",
        about: "an Ollama server",
        prefix: "OLLAMA",
        url_aliases: &["OLLAMA_HOST"], // what its own command line reads
        base_url: Some("http://127.0.0.1:11434"),
        has_many_models: true, // its list begins with the one that was pulled last
        // Its OpenAI-compatible side takes no options, so that nobody could choose the context window.
        native: &[
            (Chat, &Ollama::Chat),
            (Chat, &Ollama::Generate),
            (Complete, &Ollama::Generate),
            (Embed, &Ollama::Chat),
            (Models, &Ollama::Chat),
        ],
        own: &[
            Own {
                setting: "options.num_ctx",
                variable: "OLLAMA_NUM_CTX",
                about: "the context window of its models in tokens, prompt and answer together; without it Ollama chooses one",
            },
            Own {
                setting: "keep_alive",
                variable: "OLLAMA_KEEP_ALIVE",
                about: "how long it keeps a model in its memory after an answer: 10m, or seconds; -1 is for ever",
            },
        ],
        ..Host::PLAIN
    };
    /// llama.cpp's server.
    LLAMA_SERVER = Host {
        name: "llama-server",
        about: "llama.cpp's llama-server",
        prefix: "LLAMA_SERVER",
        base_url: Some("http://127.0.0.1:8080"),
        serves: &[Chat, Complete, Embed, Rerank, Tokenize, Detokenize],
        native: &[(Tokenize, &LlamaServer), (Detokenize, &LlamaServer)],
        ..Host::PLAIN
    };
    /// LM Studio.
    LM_STUDIO = Host {
        name: "lm-studio",
        about: "LM Studio",
        prefix: "LM_STUDIO",
        base_url: Some("http://127.0.0.1:1234/v1"),
        has_many_models: true,
        ..Host::PLAIN
    };
    /// An SGLang server.
    SGLANG = Host {
        name: "sglang",
        about: "an SGLang server",
        prefix: "SGLANG",
        base_url: Some("http://127.0.0.1:30000"),
        ..Host::PLAIN
    };
    /// Hugging Face's Text Generation Inference.
    TGI = Host {
        name: "tgi",
        about: "Hugging Face's Text Generation Inference",
        prefix: "TGI",
        base_url: Some("http://127.0.0.1:3000"),
        serves: &[Chat, Complete],
        ..Host::PLAIN
    };
    /// Hugging Face's Text Embeddings Inference.
    TEI = Host {
        name: "tei",
        about: "Hugging Face's Text Embeddings Inference",
        prefix: "TEI",
        base_url: Some("http://127.0.0.1:3000"),
        lists_models: false,
        serves: &[Embed, Rerank],
        native: &[(Rerank, &Tei)],
        around: Top::around, // it ranks all, and does not stop at the best
        ..Host::PLAIN
    };
    /// OpenRouter.
    OPENROUTER = Host {
        name: "openrouter",
        about: "OpenRouter, in front of most services",
        prefix: "OPENROUTER",
        base_url: Some("https://openrouter.ai/api/v1"),
        thoughts: &[("reasoning", "reasoning"), ("reasoning_details", "reasoning_details")],
        ..Host::SERVICE
    };
    /// Groq.
    GROQ = Host {
        name: "groq",
        about: "Groq's API",
        prefix: "GROQ",
        base_url: Some("https://api.groq.com/openai/v1"),
        serves: &[Chat],
        ..Host::SERVICE
    };
    /// Mistral.
    MISTRAL = Host {
        name: "mistral",
        about: "Mistral's API",
        prefix: "MISTRAL",
        base_url: Some("https://api.mistral.ai/v1"),
        serves: &[Chat, Embed],
        renames: &[("seed", "random_seed")],
        tells_usage: false, // it refuses fields it does not know, and tells what an answer cost without being asked
        ..Host::SERVICE
    };
    /// DeepSeek.
    DEEPSEEK = Host {
        name: "deepseek",
        about: "DeepSeek's API",
        prefix: "DEEPSEEK",
        base_url: Some("https://api.deepseek.com/v1"),
        thoughts: &[("reasoning", "reasoning_content")], // it refuses to go on without
        serves: &[Chat],
        ..Host::SERVICE
    };
    /// Together.
    TOGETHER = Host {
        name: "together",
        about: "Together's API",
        prefix: "TOGETHER",
        base_url: Some("https://api.together.xyz/v1"),
        ..Host::SERVICE
    };
    /// Any other host.
    COMPATIBLE = Host {
        name: "compatible",
        about: "any other OpenAI-compatible host",
        prefix: "LLM",
        key_variable: Some("LLM_UPSTREAM_API_KEY"), // LLM_API_KEY is what our own server asks of its clients
        ..Host::PLAIN
    };
}

/// The row of this name.
///
/// ```
/// let vllm = llm_core::provider::hosts::find("vllm").unwrap();
/// assert_eq!(vllm.base_url, Some("http://127.0.0.1:8000"));
/// ```
pub fn find(name: &str) -> Option<&'static Host> {
    HOSTS.iter().find(|host| host.name == name)
}

/// Who can be asked this, for those who asked somebody that cannot.
///
/// ```
/// use llm_core::{Operation, provider::hosts};
/// assert!(hosts::able(Operation::Rerank).starts_with("vllm, "));
/// ```
pub fn able(operation: Operation) -> String {
    let able = HOSTS.iter().filter(|host| host.operations().contains(operation));
    able.map(|host| host.name).collect::<Vec<_>>().join(", ")
}

fn build(host: &'static Host, table: &Table) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(table)?;
    let tokenizer = config.tokenizer.clone();
    let asked = (host.around)(Arc::new(Http::new(host, config)?));
    match tokenizer {
        Some(path) => tokens::of_path(asked, &path).map_err(|e| e.at("tokenizer")),
        None => Ok(asked),
    }
}

fn defaults(host: &Host) -> serde_json::Value {
    let config = Config { base_url: host.base_url.map(str::to_owned), ..Config::default() };
    serde_json::to_value(config).unwrap_or_default()
}

#[cfg(feature = "openai-tokens")]
const OPENAI_TOKENS: fn(Arc<dyn Provider>) -> Arc<dyn Provider> = tokens::tiktoken::Tiktoken::around;
#[cfg(not(feature = "openai-tokens"))]
const OPENAI_TOKENS: fn(Arc<dyn Provider>) -> Arc<dyn Provider> = Host::PLAIN.around;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Operations;
    use crate::dialect::Dialect;
    use crate::provider::PROVIDERS;

    #[test]
    fn every_host_is_a_provider_and_can_be_built_from_its_row() {
        for host in HOSTS {
            let kind = PROVIDERS.iter().find(|kind| kind.name == host.name).expect(host.name);
            let mut table = Table::from_iter([("api_key".to_owned(), "k".into())]);
            // Without TLS no https host can be built, and one host has no address of its own.
            let here = host.base_url.filter(|url| url.starts_with("http://")).unwrap_or("http://127.0.0.1:1/x/v1");
            table.insert("base_url".into(), here.into());
            let provider = (kind.build)(&table).unwrap();
            let counts = cfg!(feature = "openai-tokens") && host.name == OPENAI.name;
            let own = if counts { [Tokenize, Detokenize].into() } else { Operations::NONE };
            assert_eq!(provider.serves(), host.operations() | own, "{}", host.name);
            for operation in host.operations().iter() {
                let has_path = |dialect: &&dyn Dialect| dialect.paths().iter().any(|(known, _)| *known == operation);
                assert!(host.speaks(operation).iter().all(has_path), "{} {operation}", host.name);
            }
        }
    }

    #[test]
    fn a_setting_of_one_host_is_no_others() {
        let error = |kind: Kind, table: &str| (kind.build)(&table.parse().unwrap()).err().unwrap().to_string();
        assert_eq!(error(VLLM, "keep_alive = '5m'"), "keep_alive: vllm has no such setting; those that do: ollama");
        assert!(error(VLLM, "options = { num_ctx = 1 }").starts_with("options: vllm has no such setting"));
        let wrong = "options.num_ctx: must be a whole number of tokens, not \"8k\"";
        assert_eq!(error(OLLAMA, "options = { num_ctx = '8k' }"), wrong);
        assert!(error(OLLAMA, "keep_alive = true").starts_with("keep_alive: must be a text like"));
        assert!((OLLAMA.build)(&"keep_alive = -1\noptions = { num_ctx = 8192 }".parse().unwrap()).is_ok());
    }

    #[test]
    fn no_two_hosts_share_a_name_or_a_variable() {
        for (i, host) in HOSTS.iter().enumerate() {
            let same = |other: &&Host| other.name == host.name || other.prefix == host.prefix;
            assert_eq!(HOSTS.iter().position(|other| same(&other)), Some(i), "{}", host.name);
        }
    }

    #[cfg(not(feature = "hf-tokens"))]
    #[test]
    fn a_build_that_cannot_read_tokenizers_says_which_feature_can() {
        let error = (VLLM.build)(&"tokenizer = '/models/qwen'".parse().unwrap()).err().unwrap().to_string();
        assert!(error.starts_with("tokenizer: ") && error.contains("the feature `hf-tokens`"), "{error}");
    }

    #[test]
    fn a_service_without_its_key_is_refused_before_it_is_asked() {
        let built = |table: &str| (GROQ.build)(&table.parse().unwrap());
        let error = built("").err().unwrap().to_string();
        assert_eq!(error, "api_key: is missing: groq answers nobody without a key");
        // Whoever says where the host is may have a door in front that needs none.
        assert!(built("base_url = 'http://127.0.0.1:9/v1'").is_ok());
        assert!(!find("groq").unwrap().operations().contains(Operation::Embed));
    }
}

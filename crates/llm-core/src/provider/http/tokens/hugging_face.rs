//! Counts as the model itself reads: with its `tokenizer.json`, and conversations through its chat template.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::Counter;
use super::folder::Folder;
use super::template::{Template, Wanted};
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// A Hugging Face model's tokenizer.
pub(super) struct HuggingFace {
    path: PathBuf,
    /// Read when somebody first counts: a large one takes half a second, and most programs never ask.
    vocabulary: OnceLock<Result<Tokenizer>>,
    templates: BTreeMap<String, Template>,
    specials: BTreeMap<String, String>,
}

/// What changes a prompt in ways that are not known here, so that a count would be a guess.
const NOT_COUNTED: [&str; 2] = ["chat_template", "continue_final_message"];

impl HuggingFace {
    pub(super) fn open(path: &Path) -> Result<HuggingFace> {
        let Folder { vocabulary: path, templates, specials } = Folder::open(path)?;
        let template = |(name, source): (String, String)| match Template::new(source) {
            Ok(template) => Ok((name, template)),
            Err(error) => Err(Error::config(format!("the chat template `{name}` is wrong: {error}"))),
        };
        let templates = templates.into_iter().map(template).collect::<Result<_>>()?;
        Ok(HuggingFace { path, vocabulary: OnceLock::new(), templates, specials })
    }

    fn vocabulary(&self) -> Result<&Tokenizer> {
        self.vocabulary.get_or_init(|| read(&self.path)).as_ref().map_err(Clone::clone)
    }

    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Tokens> {
        let wrong = |e: tokenizers::Error| Error::invalid(format!("the tokenizer cannot read this text: {e}"));
        let encoding = self.vocabulary()?.encode_fast(text, add_special_tokens).map_err(wrong)?;
        let tokens = encoding.get_ids().to_vec();
        // The window is the host's to say: a vLLM's is often smaller than the model's.
        Ok(Tokens { count: tokens.len(), tokens, ..Tokens::default() })
    }

    /// The conversation as the model reads it.
    fn render(&self, messages: &[Message], extra: &Map<String, Value>, tools: Option<&[u8]>) -> Result<String> {
        let is_set = |field: &&&str| extra.get(**field).is_some_and(|v| !matches!(v, Value::Null | Value::Bool(false)));
        if let Some(field) = NOT_COUNTED.iter().find(is_set) {
            let message =
                format!("a prompt with `{field}` is not counted here: take `tokenizer` out, and its host may");
            return Err(Error::new(Kind::Unsupported, message).param(*field));
        }
        let has_tools = tools.is_some();
        self.template(has_tools)?.render(Wanted { messages, tools, extra, specials: &self.specials })
    }

    /// Models that have several name one for tools.
    fn template(&self, has_tools: bool) -> Result<&Template> {
        let for_tools = has_tools.then(|| self.templates.get("tool_use")).flatten();
        for_tools.or_else(|| self.templates.get("default")).ok_or_else(|| {
            let message = "the chat template is missing, so that no conversation can be counted: let `tokenizer` name the \
                           model's folder, with its tokenizer_config.json or chat_template.jinja";
            Error::new(Kind::Unsupported, message).param("messages")
        })
    }
}

impl Counter for HuggingFace {
    fn tokens(&self, call: &Call, request: &TokenizeRequest) -> Result<Tokens> {
        match &request.prompt {
            Prompt::Text(text) => self.encode(text, request.add_special_tokens),
            Prompt::Chat(messages) => {
                // In the client's own bytes, in whose order the host reads their fields.
                let noun = request.extra.get("tools").filter(|tools| !tools.is_null()).map(Value::to_string);
                let tools = noun.as_ref().map(|noun| call.raw("tools").unwrap_or(noun.as_bytes()));
                // Templates write the first and last tokens themselves.
                self.encode(&self.render(messages, &request.extra, tools)?, false)
            }
        }
    }

    fn text(&self, request: &DetokenizeRequest) -> Result<String> {
        let vocabulary = self.vocabulary()?;
        if let Some(stray) = request.tokens.iter().find(|token| vocabulary.id_to_token(**token).is_none()) {
            return Err(Error::invalid(format!("{stray} is none of the model's tokens")).param("tokens"));
        }
        let wrong = |e: tokenizers::Error| Error::invalid(format!("these tokens are no text: {e}")).param("tokens");
        vocabulary.decode(&request.tokens, false).map_err(wrong)
    }
}

fn read(path: &Path) -> Result<Tokenizer> {
    let wrong =
        |e: tokenizers::Error| Error::config(format!("{} is no tokenizer: {e}", path.display())).at("tokenizer");
    let mut vocabulary = Tokenizer::from_file(path).map_err(wrong)?;
    // Embedding models keep here how they were trained; what is asked is how long the text is.
    vocabulary.with_truncation(None).map_err(wrong)?;
    vocabulary.with_padding(None);
    Ok(vocabulary)
}

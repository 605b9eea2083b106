//! Clients' bodies understood.
use serde_json::{Map, Value};

use super::messages::{self, Said};
use super::{Ollama, extras};
use crate::call::*;
use crate::dialect::fields::Fields;
use crate::dialect::openai::read::texts;
use crate::error::{Error, Result};

pub(super) fn request(shape: Ollama, operation: Operation, body: &[u8], lost: &mut Vec<String>) -> Result<Request> {
    if operation == Operation::Models {
        return Ok(Request::Models);
    }
    let mut fields = Fields::of(body)?;
    let model = fields.take("model")?.unwrap_or_default();
    let (sampling, extra) = extras::read(&mut fields, lost)?;
    let mut asked = Asked { model, sampling, extra, fields };
    match (shape, operation) {
        (Ollama::Embeddings, _) => asked.embed_prompt(),
        (_, Operation::Embed) => asked.embed(),
        (Ollama::Chat, _) => asked.chat(),
        (Ollama::Generate, Operation::Chat) => asked.prompt(),
        (Ollama::Generate, _) => asked.complete(),
    }
}

/// A body on its way.
struct Asked {
    model: String,
    sampling: Sampling,
    extra: Map<String, Value>,
    fields: Fields,
}

impl Asked {
    fn chat(&mut self) -> Result<Request> {
        let said: Vec<Said> = self.fields.take("messages")?.unwrap_or_default();
        if said.is_empty() {
            return Err(Error::invalid("`messages` must have at least one message").param("messages"));
        }
        let tools = self.fields.take("tools")?.unwrap_or_default();
        self.conversation(messages::read(said)?, tools)
    }

    /// One prompt as a conversation.
    fn prompt(&mut self) -> Result<Request> {
        let mut question = Message::user(self.fields.take::<String>("prompt")?.unwrap_or_default());
        for image in self.fields.take::<Vec<String>>("images")?.unwrap_or_default() {
            question.content.push(messages::picture(&image).map_err(|e| e.param("images"))?);
        }
        if question.content.text().is_empty() && matches!(question.content, Content::Text(_)) {
            return Err(Error::invalid("`prompt` must say something").param("prompt"));
        }
        let system = self.fields.take::<String>("system")?.filter(|text| !text.is_empty()).map(Message::system);
        self.conversation(system.into_iter().chain([question]).collect(), Vec::new())
    }

    fn conversation(&mut self, messages: Vec<Message>, tools: Vec<Value>) -> Result<Request> {
        let (model, sampling) = (std::mem::take(&mut self.model), std::mem::take(&mut self.sampling));
        Ok(ChatRequest { model, messages, sampling, n: None, tools, extra: self.rest() }.into())
    }

    fn complete(&mut self) -> Result<Request> {
        let prompt = self.fields.take("prompt")?.unwrap_or_default();
        let (model, sampling) = (std::mem::take(&mut self.model), std::mem::take(&mut self.sampling));
        Ok(CompleteRequest { model, prompt, sampling, n: None, extra: self.rest() }.into())
    }

    fn embed(&mut self) -> Result<Request> {
        let (input, model) = (texts(&mut self.fields)?, std::mem::take(&mut self.model));
        let dimensions = self.fields.count("dimensions")?.filter(|dimensions| *dimensions > 0);
        Ok(EmbedRequest { model, input, dimensions, extra: self.rest(), ..EmbedRequest::default() }.into())
    }

    fn embed_prompt(&mut self) -> Result<Request> {
        let (input, model) = (vec![self.fields.need("prompt")?], std::mem::take(&mut self.model));
        Ok(EmbedRequest { model, input, extra: self.rest(), ..EmbedRequest::default() }.into())
    }

    /// What no noun has a place for, as it came; an empty text is how Ollama's clients leave a field out.
    fn rest(&mut self) -> Map<String, Value> {
        let mut rest = std::mem::replace(&mut self.fields, Fields::new(Map::new())).rest();
        rest.retain(|name, value| {
            !matches!(name.as_str(), "stream" | "raw" | "system" | "images") && !value.is_null() && *value != ""
        });
        rest.append(&mut self.extra);
        rest
    }
}

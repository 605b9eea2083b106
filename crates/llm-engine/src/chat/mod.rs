//! The model's own chat template, rendered by llama.cpp's Jinja engine.
//!
//! `llama_chat_apply_template` is no Jinja: it guesses the format and loses, for example, SmolLM2's default system prompt.
//! llama.cpp's server uses the C++ library that the shim reaches.

mod ffi;

use crate::llama::Model;
use ffi::Templates;
use llm_core::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Deeper JSON than this overflows recursive readers; no honest tool schema comes near.
const DEEPEST: usize = 64;

/// A model's chat template, compiled.
pub(crate) struct Chat {
    // llama.cpp does not say whether rendering may happen on two threads at once; it takes about a millisecond.
    templates: Mutex<Templates>,
    tools: bool,
}

/// A conversation as the template makes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Rendered {
    pub(crate) prompt: String,
    /// Texts at which this format's answers end.
    pub(crate) stops: Vec<String>,
}

impl Chat {
    /// The template that the model's file carries, or `source` in its place. A model without one cannot chat: llama.cpp
    /// would guess ChatML, and the answers would be nonsense.
    pub(crate) fn new(model: &Arc<Model>, source: Option<&str>) -> Result<Option<Chat>> {
        if source.is_none() && !model.header().has_chat_template {
            return Ok(None);
        }
        let templates = Templates::new(model, source.unwrap_or_default())?;
        let tools = templates.abilities()?.get("supports_tools").and_then(Value::as_bool).unwrap_or(false);
        Ok(Some(Chat { templates: Mutex::new(templates), tools }))
    }

    /// The prompt for these messages, each as OpenAI writes it.
    pub(crate) fn render(
        &self,
        messages: Value,
        tools: &[Value],
        kwargs: Option<&Map<String, Value>>,
    ) -> Result<Rendered> {
        if !tools.is_empty() && !self.tools {
            let why = "this model's chat template cannot show it tools; choose a model made for tool calls";
            return Err(Error::new(Kind::Unsupported, why).param("tools"));
        }
        let mut request = json!({ "messages": messages });
        if !tools.is_empty() {
            request["tools"] = tools.into();
        }
        if let Some(kwargs) = kwargs {
            request["kwargs"] = kwargs.clone().into();
        }
        refuse_deep(&request, DEEPEST)?;
        let templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        templates.render(&request.to_string())
    }
}

fn refuse_deep(value: &Value, left: usize) -> Result<()> {
    let Some(left) = left.checked_sub(1) else {
        return Err(
            Error::invalid(format!("`messages` or `tools` nest deeper than {DEEPEST} levels")).param("messages")
        );
    };
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| refuse_deep(item, left)),
        Value::Object(fields) => fields.values().try_for_each(|field| refuse_deep(field, left)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_nests_too_deep_is_refused_before_cpp_sees_it() {
        let deep = (0..DEEPEST).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(refuse_deep(&deep, DEEPEST).unwrap_err().kind(), Kind::Invalid);
        assert!(refuse_deep(&json!({"a": [1]}), DEEPEST).is_ok());
    }
}

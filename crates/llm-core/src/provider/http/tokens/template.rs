//! A model's chat template, rendered as transformers and vLLM render it: what the model really reads of a conversation.
mod conversation;
mod json;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};
use serde::Deserialize;
use serde_json::Map;

use crate::call::Message;
use crate::error::{Error, Result};

/// How much a template may do: some thousand messages' worth, a second at most, and 320 MB of text.
const FUEL: u64 = 5_000_000;
const NAME: &str = "chat template";

/// A template that was read and is right.
pub(super) struct Template {
    jinja: Environment<'static>,
    /// It goes through the parts of a message's content, so that it gets them; most want one text.
    wants_parts: bool,
    knows_developers: bool,
}

/// A conversation to render, and what else the template may ask for.
pub(super) struct Wanted<'a> {
    pub(super) messages: &'a [Message],
    /// A JSON array.
    pub(super) tools: Option<&'a [u8]>,
    pub(super) extra: &'a Map<String, serde_json::Value>,
    pub(super) specials: &'a BTreeMap<String, String>,
}

impl Template {
    /// # Errors
    /// Jinja's, with the line.
    pub(super) fn new(source: String) -> Result<Template, minijinja::Error> {
        let wants_parts = conversation::goes_through_parts(&source);
        let knows_developers = source.contains("developer");
        let mut jinja = environment()?;
        jinja.add_template_owned(NAME, without_generation(&source))?;
        Ok(Template { jinja, wants_parts, knows_developers })
    }

    /// # Errors
    /// `Invalid`, with the template's own words if it refuses the conversation.
    pub(super) fn render(&self, wanted: Wanted<'_>) -> Result<String> {
        let wrong = |e: minijinja::Error| {
            let why = e.detail().map_or_else(|| e.kind().to_string(), str::to_owned);
            Error::invalid(format!("the model's chat template refuses this conversation: {why}")).param("messages")
        };
        let template = self.jinja.get_template(NAME).map_err(wrong)?;
        template.render(self.variables(wanted)?).map_err(wrong)
    }

    fn variables(&self, wanted: Wanted<'_>) -> Result<Value> {
        let mut all = BTreeMap::new();
        all.extend(wanted.specials.iter().map(|(name, token)| (name.clone(), Value::from(token.clone()))));
        if let Some(serde_json::Value::Object(more)) = wanted.extra.get("chat_template_kwargs") {
            all.extend(more.iter().map(|(name, value)| (name.clone(), of_json(value))));
        }
        let begins = wanted.extra.get("add_generation_prompt").is_none_or(|v| v != &serde_json::Value::Bool(false));
        all.insert("add_generation_prompt".into(), begins.into());
        all.insert("messages".into(), self.messages(wanted.messages)?);
        all.insert("tools".into(), wanted.tools.map(conversation::tools).transpose()?.unwrap_or(Value::from(())));
        all.insert("documents".into(), Value::from(()));
        Ok(Value::from(all))
    }

    fn messages(&self, messages: &[Message]) -> Result<Value> {
        let known = if self.knows_developers { None } else { conversation::without_developers(messages) };
        let messages = known.as_deref().unwrap_or(messages);
        let shown = messages.iter().map(|message| conversation::message(message, self.wants_parts));
        Ok(Value::from(shown.collect::<Result<Vec<_>>>()?))
    }
}

fn of_json(value: &serde_json::Value) -> Value {
    Value::deserialize(value).unwrap_or_default()
}

/// Jinja as transformers sets it up.
fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut jinja = Environment::new();
    jinja.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    jinja.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    jinja.set_fuel(Some(FUEL));
    jinja.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    jinja.add_filter("tojson", json::tojson);
    jinja.add_function("raise_exception", |why: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, why))
    });
    jinja.add_function("strftime_now", |format: String| -> Result<String, minijinja::Error> {
        let wrong = |e: jiff::Error| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string());
        jiff::fmt::strtime::format(format, &jiff::Zoned::now()).map_err(wrong)
    });
    Ok(jinja)
}

/// `{% generation %}` marks for trainers what the model said. Here it is a block that always counts.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inside, after)) = tag.split_once("%}") else { break };
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let inside = match word {
            "generation" => inside.replace(word, "if true"),
            "endgeneration" => inside.replace(word, "endif"),
            _ => inside.to_owned(),
        };
        out.extend([before, "{%", &inside, "%}"]);
        rest = after;
    }
    out + rest
}

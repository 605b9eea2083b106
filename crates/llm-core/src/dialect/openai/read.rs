//! Clients' bodies understood.
use serde::Deserialize;
use serde_json::Value;

use super::fields::Fields;
use crate::call::*;
use crate::error::{Error, Kind, Result};

pub(super) fn request(operation: Operation, body: &[u8]) -> Result<Request> {
    if operation == Operation::Models {
        return Ok(Request::Models);
    }
    let mut fields = Fields::of(body)?;
    let model = fields.take("model")?.unwrap_or_default();
    Ok(match operation {
        Operation::Chat => Request::Chat(chat(model, fields)?),
        Operation::Complete => Request::Complete(complete(model, fields)?),
        Operation::Embed => Request::Embed(embed(model, fields)?),
        Operation::Tokenize => Request::Tokenize(tokenize(model, fields)?),
        Operation::Detokenize => Request::Detokenize(DetokenizeRequest { model, tokens: fields.need("tokens")? }),
        Operation::Models => Request::Models,
    })
}

fn chat(model: String, mut fields: Fields) -> Result<ChatRequest> {
    let messages: Vec<Message> = fields.need("messages")?;
    if messages.is_empty() {
        return Err(Error::invalid("`messages` must have at least one message").param("messages"));
    }
    let sampling = sampling(&mut fields)?;
    let (n, tools) = (fields.count("n")?, fields.take("tools")?.unwrap_or_default());
    Ok(ChatRequest { model, messages, sampling, n, tools, extra: answer_fields(fields) })
}

fn complete(model: String, mut fields: Fields) -> Result<CompleteRequest> {
    let prompt = match fields.need::<OneOrMany<String>>("prompt")? {
        OneOrMany::One(prompt) => prompt,
        OneOrMany::Many(prompts) if prompts.len() == 1 => prompts.into_iter().next().unwrap_or_default(),
        OneOrMany::Many(_) => {
            let message = "`prompt` must be one text here: send one request for each";
            return Err(Error::new(Kind::Unsupported, message).param("prompt"));
        }
    };
    let (sampling, n) = (sampling(&mut fields)?, fields.count("n")?);
    Ok(CompleteRequest { model, prompt, sampling, n, extra: answer_fields(fields) })
}

/// What belongs to the delivery is in the call, not among the fields that go on.
fn answer_fields(fields: Fields) -> serde_json::Map<String, Value> {
    let mut rest = fields.rest();
    rest.remove("stream");
    rest
}

fn embed(model: String, mut fields: Fields) -> Result<EmbedRequest> {
    let input = match fields.need::<OneOrMany<String>>("input") {
        Ok(OneOrMany::One(text)) => vec![text],
        Ok(OneOrMany::Many(texts)) => texts,
        Err(_) => return Err(Error::invalid("`input` must be a text or a list of texts").param("input")),
    };
    if input.is_empty() {
        return Err(Error::invalid("`input` must have at least one text").param("input"));
    }
    let base64 = match fields.take::<String>("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("`encoding_format` must be float or base64, not {other}");
            return Err(Error::invalid(message).param("encoding_format"));
        }
    };
    let dimensions = fields.count("dimensions")?;
    Ok(EmbedRequest { model, input, dimensions, base64, extra: fields.rest() })
}

fn tokenize(model: String, mut fields: Fields) -> Result<TokenizeRequest> {
    let prompt = match (fields.take::<String>("prompt")?, fields.take::<Vec<Message>>("messages")?) {
        (Some(text), None) => Prompt::Text(text),
        (None, Some(messages)) => Prompt::Chat(messages),
        _ => return Err(Error::invalid("give either `prompt` or `messages`").param("prompt")),
    };
    let add_special_tokens = fields.take("add_special_tokens")?.unwrap_or(true);
    Ok(TokenizeRequest { model, prompt, add_special_tokens, extra: fields.rest() })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// The limits are OpenAI's, and vLLM's for the fields that OpenAI lacks.
fn sampling(fields: &mut Fields) -> Result<Sampling> {
    let old = fields.count("max_tokens")?;
    let stop = match fields.take::<OneOrMany<String>>("stop")? {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop],
        Some(OneOrMany::Many(stops)) => stops,
    };
    if stop.len() > 16 {
        return Err(Error::invalid("`stop` has more than 16 texts").param("stop"));
    }
    let max_tokens = fields.count("max_completion_tokens")?.or(old);
    if max_tokens == Some(0) {
        return Err(Error::invalid("`max_tokens` must be at least 1").param("max_tokens"));
    }
    Ok(Sampling {
        max_tokens,
        temperature: fields.within("temperature", 0.0, 2.0)?,
        top_p: fields.within("top_p", 0.0, 1.0)?,
        top_k: fields.count("top_k")?,
        min_p: fields.within("min_p", 0.0, 1.0)?,
        seed: fields.take::<i64>("seed")?.map(|seed| seed as u64), // any 64 bits will do
        stop: stop.into_iter().filter(|s| !s.is_empty()).collect(),
        presence_penalty: fields.within("presence_penalty", -2.0, 2.0)?,
        frequency_penalty: fields.within("frequency_penalty", -2.0, 2.0)?,
        repetition_penalty: fields.within("repetition_penalty", 0.01, 10.0)?,
        logit_bias: logit_bias(fields)?,
    })
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>> {
    let map = fields.take::<std::collections::BTreeMap<String, f32>>("logit_bias")?.unwrap_or_default();
    let wrong = || Error::invalid("`logit_bias` must map token ids to -100..100").param("logit_bias");
    map.into_iter()
        .map(|(id, bias)| match id.parse() {
            Ok(id) if (-100.0..=100.0).contains(&bias) => Ok((id, bias)),
            _ => Err(wrong()),
        })
        .collect()
}

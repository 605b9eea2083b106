//! Clients' bodies understood.
use serde::Deserialize;
use serde_json::Value;

use crate::call::*;
use crate::dialect::fields::Fields;
use crate::error::{Error, Kind, Result};

pub(in crate::dialect) fn request(operation: Operation, body: &[u8]) -> Result<Request> {
    if operation == Operation::Models {
        return Ok(Request::Models);
    }
    let mut fields = Fields::of(body)?;
    let model = fields.take("model")?.unwrap_or_default();
    Ok(match operation {
        Operation::Chat => Request::Chat(chat(model, fields)?),
        Operation::Complete => Request::Complete(complete(model, fields)?),
        Operation::Embed => Request::Embed(embed(model, fields)?),
        Operation::Rerank => Request::Rerank(rerank(model, fields)?),
        Operation::Score => Request::Score(score(model, fields)?),
        Operation::Tokenize => Request::Tokenize(tokenize(model, fields)?),
        Operation::Detokenize => {
            let tokens = fields.need("tokens")?;
            Request::Detokenize(DetokenizeRequest { model, tokens, extra: fields.rest() })
        }
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
    let messages: Vec<Message> = fields.take("messages")?.unwrap_or_default();
    let input = if messages.is_empty() { texts(&mut fields)? } else { Vec::new() };
    let base64 = match fields.take::<String>("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("`encoding_format` must be float or base64, not {other}");
            return Err(Error::invalid(message).param("encoding_format"));
        }
    };
    let dimensions = fields.count("dimensions")?;
    Ok(EmbedRequest { model, input, messages, dimensions, base64, extra: fields.rest() })
}

pub(in crate::dialect) fn texts(fields: &mut Fields) -> Result<Vec<String>> {
    match fields.need::<OneOrMany<String>>("input") {
        Ok(OneOrMany::Many(texts)) if texts.is_empty() => {
            Err(Error::invalid("`input` must have at least one text").param("input"))
        }
        Ok(texts) => Ok(texts.list()),
        Err(_) => Err(Error::invalid("`input` must be a text or a list of texts").param("input")),
    }
}

fn rerank(model: String, mut fields: Fields) -> Result<RerankRequest> {
    let (query, documents) = (fields.need("query")?, documents(&mut fields, "documents")?);
    let top_n = fields.count("top_n")?.filter(|n| *n > 0); // vLLM's 0 is all
    Ok(RerankRequest { model, query, documents, top_n, extra: fields.rest() })
}

/// vLLM has three pairs of names for the two sides.
fn score(model: String, mut fields: Fields) -> Result<ScoreRequest> {
    let pairs = [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")];
    let given = |(left, right): &&(&str, &str)| fields.has(left) && fields.has(right);
    let missing = || Error::invalid("give `queries` and `documents`, or `text_1` and `text_2`").param("queries");
    let &(left, right) = pairs.iter().find(given).ok_or_else(missing)?;
    let (queries, documents) = (documents(&mut fields, left)?, documents(&mut fields, right)?);
    if queries.len() != 1 && queries.len() != documents.len() {
        let message = format!("`{left}` must be one, or as many as `{right}`");
        return Err(Error::invalid(message).param(left));
    }
    Ok(ScoreRequest { model, queries, documents, extra: fields.rest() })
}

fn documents(fields: &mut Fields, name: &'static str) -> Result<Vec<Value>> {
    match fields.need::<OneOrMany<Value>>(name)?.list() {
        list if list.is_empty() => Err(Error::invalid(format!("`{name}` must have at least one text")).param(name)),
        list => Ok(list),
    }
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

/// A list is tried first: one of anything may be a list too.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn list(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// The limits are OpenAI's, and vLLM's for the fields that OpenAI lacks.
pub(in crate::dialect) fn sampling(fields: &mut Fields) -> Result<Sampling> {
    let old = fields.count("max_tokens")?;
    let stop = fields.take::<OneOrMany<String>>("stop")?.map(OneOrMany::list).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn score(body: Value) -> Result<ScoreRequest> {
        match request(Operation::Score, body.to_string().as_bytes())? {
            Request::Score(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_two_sides_of_a_score_have_three_pairs_of_names() {
        for (left, right) in
            [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")]
        {
            let request = score(json!({left: "a", right: ["b", "c"]})).unwrap();
            assert_eq!((request.queries.len(), request.documents.len()), (1, 2));
        }
        let error = score(json!({"queries": ["a", "b"], "documents": ["c", "d", "e"]})).unwrap_err();
        assert_eq!(
            (error.get_param(), error.message()),
            (Some("queries"), "`queries` must be one, or as many as `documents`")
        );
        assert_eq!(score(json!({"queries": "a"})).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn an_image_is_embedded_from_messages() {
        let body = json!({"model": "clip", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]});
        let Request::Embed(embed) = request(Operation::Embed, body.to_string().as_bytes()).unwrap() else { panic!() };
        assert_eq!(
            (embed.expected(), embed.messages[0].content.parts().next().unwrap().image_url()),
            (1, Some("data:,"))
        );
    }
}

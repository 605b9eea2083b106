//! llama-server's own tokenizer: `{"content"}` -> `{"tokens"}` and back, and for a conversation Anthropic's count, which puts
//! it into the model's chat template first.
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::openai::errors;
use super::openai::write::json as as_json;
use super::{Dialect, Reader, Writer};
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// The shapes of `/tokenize`, `/v1/messages/count_tokens` and `/detokenize`.
///
/// ```
/// use llm_core::{Call, Delivery, DetokenizeRequest, dialect::{Dialect, llama_server::LlamaServer}};
/// let back = DetokenizeRequest { tokens: vec![5, 6], ..DetokenizeRequest::default() };
/// assert_eq!(LlamaServer.write(&Call::new(back, Delivery::Whole))?, r#"{"tokens":[5,6]}"#);
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug)]
pub struct LlamaServer;

impl Dialect for LlamaServer {
    fn name(&self) -> &'static str {
        "llama-server"
    }

    fn paths(&self) -> &'static [(Operation, &'static str)] {
        &[
            (Operation::Tokenize, "/tokenize"),
            (Operation::Tokenize, "/v1/messages/count_tokens"),
            (Operation::Detokenize, "/detokenize"),
        ]
    }

    /// vLLM's shapes have the same paths, and chat templates.
    fn doors(&self) -> &'static [(Operation, &'static str)] {
        &[]
    }

    fn way(&self, call: &Call) -> usize {
        match call.request() {
            Ok(Request::Tokenize(TokenizeRequest { prompt: Prompt::Chat(_), .. })) => 1,
            _ => 0,
        }
    }

    fn read(&self, operation: Operation, body: &[u8], _: &mut Vec<String>) -> Result<Request> {
        let (mut fields, model) = (Fields::of(body)?, String::new());
        if operation == Operation::Detokenize {
            return Ok(DetokenizeRequest { model, tokens: fields.need("tokens")?, ..Default::default() }.into());
        }
        let prompt = match fields.take::<Vec<Message>>("messages")? {
            Some(messages) => Prompt::Chat(messages),
            None => Prompt::Text(fields.need("content")?),
        };
        let add_special_tokens = fields.take("add_special")?.unwrap_or(false);
        Ok(TokenizeRequest { model, prompt, add_special_tokens, extra: Map::new() }.into())
    }

    fn write(&self, call: &Call) -> Result<Bytes> {
        let mut body = match call.request()? {
            Request::Detokenize(asked) => json!({"tokens": asked.tokens}),
            Request::Tokenize(asked) => match &asked.prompt {
                Prompt::Text(text) => json!({"content": text, "add_special": asked.add_special_tokens}),
                Prompt::Chat(messages) => conversation(messages, &asked.extra)?,
            },
            _ => return Err(Error::new(Kind::Unsupported, format!("its tokenizer cannot {}", call.operation))),
        };
        if !call.model.is_empty() {
            body["model"] = (*call.model).into();
        }
        Ok(body.to_string().into())
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Answers)
    }

    fn writer(&self, call: &Call) -> Box<dyn Writer> {
        Box::new(Written { counts: self.way(call) == 1, is_written: false })
    }

    fn glance(&self, body: &[u8]) -> Glance {
        let failure = body.starts_with(b"{\"error\"").then(|| errors::refusal(500, body));
        Glance { is_finished: failure.is_none(), failure, ..Glance::default() }
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Error {
        let error = errors::refusal(status, body);
        match error.kind() {
            Kind::NotFound => {
                let message = "this llama-server cannot count tokens so: a newer one has /v1/messages/count_tokens";
                Error::new(Kind::Unsupported, message).because(error)
            }
            _ => error,
        }
    }

    fn error(&self, error: &Error) -> Bytes {
        errors::body(error).into()
    }

    fn failure(&self, error: &Error) -> Bytes {
        self.error(error)
    }
}

/// Messages of words go through as they are; Anthropic's shape of images is another.
fn conversation(messages: &[Message], extra: &Map<String, Value>) -> Result<Value> {
    let mut body = Value::Object(extra.clone());
    if let Some(Value::Array(tools)) = extra.get("tools") {
        body["tools"] = tools.iter().map(tool).collect::<Result<Vec<_>>>()?.into();
    }
    let written = messages.iter().map(message).collect::<Result<Vec<_>>>()?;
    body["messages"] = written.into();
    Ok(body)
}

/// Anthropic has a tool's fields beside each other, and other words for them; what is not found would cost nothing.
fn tool(tool: &Value) -> Result<Value> {
    let Some(function) = tool.get("function").filter(|function| function["name"].is_string()) else {
        return Err(Error::new(Kind::Unsupported, "llama-server counts tools that are functions").param("tools"));
    };
    let schema = function.get("parameters").cloned().unwrap_or_else(|| json!({"type": "object"}));
    Ok(json!({"name": function["name"], "description": function["description"], "input_schema": schema}))
}

fn message(message: &Message) -> Result<Value> {
    let is_text = message.content.parts().all(|part| part.as_text().is_some());
    if !is_text {
        return Err(Error::new(Kind::Unsupported, "llama-server counts words alone, no images").param("messages"));
    }
    let mut written = as_json(message)?;
    written["content"] = message.content.text().into();
    Ok(written)
}

struct Answers;

impl Reader for Answers {
    fn read(&mut self, frame: &[u8], nouns: &mut Vec<Frame>) -> Result<()> {
        let nonsense = || invalid_answer("the upstream answered something that is no answer");
        let mut fields = Fields::of(frame).map_err(|e| nonsense().because(e))?;
        let tokens = |count, tokens| Frame::Tokens(Tokens { count, tokens, ..Tokens::default() });
        let broken = |e: Error| nonsense().because(e);
        nouns.push(if let Some(ids) = fields.take::<Vec<u32>>("tokens").map_err(broken)? {
            tokens(ids.len(), ids)
        } else if let Some(count) = fields.take("input_tokens").map_err(broken)? {
            tokens(count, Vec::new())
        } else {
            Frame::Text(fields.need("content").map_err(broken)?)
        });
        Ok(())
    }
}

struct Written {
    counts: bool,
    is_written: bool,
}

impl Writer for Written {
    fn write(&mut self, frame: Frame, out: &mut BytesMut) -> Result<()> {
        let body = match frame {
            Frame::Tokens(tokens) if self.counts => json!({"input_tokens": tokens.count}),
            Frame::Tokens(tokens) => json!({"tokens": tokens.tokens}),
            Frame::Text(text) => json!({"content": text}),
            _ => return Err(Error::new(Kind::Internal, "a frame that does not belong here")),
        };
        self.is_written = true;
        out.put_slice(body.to_string().as_bytes());
        Ok(())
    }

    fn end(&mut self, _: &mut BytesMut) -> Result<()> {
        if self.is_written { Ok(()) } else { Err(truncated()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: impl Into<Request>) -> (&'static str, Value) {
        let call = Call::new(request, Delivery::Whole);
        let ways = LlamaServer.paths().iter().filter(|(operation, _)| *operation == call.operation);
        let body = serde_json::from_slice(&LlamaServer.write(&call).unwrap()).unwrap();
        (ways.map(|(_, path)| *path).nth(LlamaServer.way(&call)).unwrap(), body)
    }

    fn tokenize(prompt: impl Into<Prompt>) -> TokenizeRequest {
        TokenizeRequest { prompt: prompt.into(), add_special_tokens: true, model: "tiny".into(), extra: Map::new() }
    }

    fn understood(body: &str) -> Frame {
        let mut nouns = Vec::new();
        LlamaServer.reader().read(body.as_bytes(), &mut nouns).unwrap();
        nouns.pop().unwrap()
    }

    #[test]
    fn a_text_goes_to_its_tokenizer_and_a_conversation_to_what_knows_the_template() {
        let text = json!({"model": "tiny", "content": "Hello world", "add_special": true});
        assert_eq!(asked(tokenize("Hello world")), ("/tokenize", text));
        let mut parts = Message::user("");
        parts.content.push(Part::text("What is "));
        parts.content.push(Part::text("that?"));
        let chat = json!({"model": "tiny", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is that?"}]});
        assert_eq!(asked(tokenize(vec![Message::system("Be brief."), parts])), ("/v1/messages/count_tokens", chat));
        let tool = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}});
        let mut with_tools = tokenize(vec![Message::user("hi")]);
        with_tools.extra.insert("tools".into(), json!([tool]));
        let counted = json!([{"name": "f", "description": "d", "input_schema": {"type": "object"}}]);
        assert_eq!(asked(with_tools).1["tools"], counted, "in OpenAI's shape it would count them as nothing");
        let back = DetokenizeRequest { model: "tiny".into(), tokens: vec![5, 6], ..Default::default() };
        assert_eq!(asked(back), ("/detokenize", json!({"model": "tiny", "tokens": [5, 6]})));
    }

    #[test]
    fn its_answers_are_understood() {
        let Frame::Tokens(tokens) = understood("{\"tokens\":[5,6,7]}") else { panic!() };
        assert_eq!((tokens.count, tokens.tokens), (3, vec![5, 6, 7]));
        // As a server of build 0c1e570 said them.
        let Frame::Tokens(tokens) = understood("{\"input_tokens\":18}") else { panic!() };
        assert_eq!((tokens.count, tokens.tokens.len()), (18, 0));
        let Frame::Text(text) = understood("{\"content\":\"&'(\"}") else { panic!() };
        assert_eq!(text, "&'(");
        assert!(LlamaServer.reader().read(b"{\"tokens\":\"x\"}", &mut Vec::new()).is_err());
    }

    #[test]
    fn images_are_not_counted_and_an_old_server_says_what_it_lacks() {
        let looks = EmbedRequest::image(Image::url("data:image/png;base64,aa")).messages;
        let error = LlamaServer.write(&Call::new(tokenize(looks), Delivery::Whole)).unwrap_err();
        assert_eq!((error.kind(), error.get_param()), (Kind::Unsupported, Some("messages")));
        let body = br#"{"error":{"message":"File Not Found","type":"not_found_error","code":404}}"#;
        assert_eq!(LlamaServer.refusal(404, body).kind(), Kind::Unsupported);
    }
}

//! Counts the tokens of OpenAI's models here, since its API has no route for it.
use std::sync::Arc;

use tiktoken_rs::{CoreBPE, bpe_for_model, model::get_context_size, o200k_base_singleton};

use super::{Counted, Counter};
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// What OpenAI's guide adds for each message, and once for the answer that begins.
const PER_MESSAGE: usize = 3;

/// OpenAI's vocabularies. A text is counted exactly, and a conversation by OpenAI's documented formula. Tools and their calls are
/// not in it: they are counted as the JSON that they are, which is a little more than they take. Images are not counted here.
pub(in crate::provider) struct Tiktoken;

impl Tiktoken {
    pub(in crate::provider) fn around(inner: Arc<dyn Provider>) -> Arc<dyn Provider> {
        Counted::around(inner, Tiktoken)
    }
}

impl Counter for Tiktoken {
    fn tokens(&self, call: &Call, request: &TokenizeRequest) -> Result<Tokens> {
        let max_model_len = get_context_size(&call.model).and_then(|n| u32::try_from(n).ok());
        let vocabulary = vocabulary(&call.model);
        let tools = request.extra.get("tools").map_or(0, |tools| vocabulary.count_ordinary(&tools.to_string()));
        let tokens = tokens(vocabulary, &request.prompt)?;
        Ok(Tokens { max_model_len, count: tokens.count + tools, ..tokens })
    }

    fn text(&self, request: &DetokenizeRequest) -> Result<String> {
        let wrong = |_| Error::invalid("these tokens are none of the model's, or no whole text").param("tokens");
        vocabulary(&request.model).decode(&request.tokens).map_err(wrong)
    }
}

/// A name that is new, or of another host, most likely has the newest vocabulary.
fn vocabulary(model: &str) -> &'static CoreBPE {
    bpe_for_model(model).unwrap_or_else(|_| o200k_base_singleton())
}

fn tokens(vocabulary: &CoreBPE, prompt: &Prompt) -> Result<Tokens> {
    Ok(match prompt {
        Prompt::Text(text) => {
            let tokens = vocabulary.encode_ordinary(text);
            Tokens { count: tokens.len(), tokens, ..Tokens::default() }
        }
        Prompt::Chat(messages) => {
            let said = |message: &Message| said(vocabulary, message);
            let count = PER_MESSAGE + messages.iter().map(said).sum::<Result<usize>>()?;
            Tokens { count, ..Tokens::default() }
        }
    })
}

fn said(vocabulary: &CoreBPE, message: &Message) -> Result<usize> {
    if let Some(part) = message.content.parts().find(|part| part.as_text().is_none()) {
        let what = format!("a part of the kind `{}` is not counted here: only its host knows its tokens", part.kind());
        return Err(Error::new(Kind::Unsupported, what).param("messages"));
    }
    let calls = message.tool_calls.iter().map(|call| {
        let words = [&call.id, &call.function.name, &call.function.arguments];
        PER_MESSAGE + words.into_iter().map(|words| vocabulary.count_ordinary(words)).sum::<usize>()
    });
    Ok(PER_MESSAGE + 1 + vocabulary.count_ordinary(&message.content.text()) + calls.sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;

    async fn count(model: &str, prompt: impl Into<Prompt>) -> Tokens {
        let request = TokenizeRequest {
            model: model.into(),
            prompt: prompt.into(),
            add_special_tokens: true,
            extra: Default::default(),
        };
        let provider = Tiktoken::around(Arc::new(Fake::says("hi")));
        let reply = provider.call(&Call::new(request, Delivery::Whole)).await.unwrap();
        reply.single(|f| if let Frame::Tokens(t) = f { Some(t) } else { None }).await.unwrap()
    }

    #[tokio::test]
    async fn a_text_is_counted_as_openais_own_tokenizer_does() {
        let old = count("gpt-4", "tiktoken is great!").await; // the example of its own guide
        assert_eq!(old.tokens, [83, 1609, 5963, 374, 2294, 0]);
        assert_eq!(old.max_model_len, Some(8192));
        let new = count("gpt-4o", "tiktoken is great!").await;
        assert_eq!(new.tokens, [83, 8251, 2488, 382, 2212, 0]);
    }

    #[tokio::test]
    async fn a_conversation_costs_its_words_and_its_frame() {
        let one = count("gpt-4o", vec![Message::user("hello")]).await.count;
        assert_eq!(one, 8, "OpenAI bills 8 for it");
    }

    #[tokio::test]
    async fn tools_cost_at_least_what_they_say_and_an_image_is_not_guessed() {
        let ask = async |messages: Vec<Message>, tools: serde_json::Value| {
            let extra = serde_json::Map::from_iter([("tools".to_owned(), tools)]);
            let request =
                TokenizeRequest { model: "gpt-4o".into(), prompt: messages.into(), add_special_tokens: true, extra };
            let provider = Tiktoken::around(Arc::new(Fake::says("hi")));
            let reply = provider.call(&Call::new(request, Delivery::Whole)).await?;
            reply.single(|f| if let Frame::Tokens(t) = f { Some(t.count) } else { None }).await
        };
        let tool = serde_json::json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]);
        let (none, with) = (serde_json::json!([]), ask(vec![Message::user("hello")], tool).await.unwrap());
        let without = ask(vec![Message::user("hello")], none.clone()).await.unwrap();
        assert!(with > without + 15, "{with} {without}");
        let mut called = Message::assistant("");
        called.tool_calls = vec![ToolCall {
            function: FunctionCall { arguments: "{\"city\":\"Paris\"}".into(), ..Default::default() },
            ..ToolCall::default()
        }];
        assert!(ask(vec![called], none.clone()).await.unwrap() > 10);
        let mut seen = Message::user("what?");
        seen.content.push(Image::url("data:image/png;base64,eA==").into());
        assert_eq!(ask(vec![seen], none).await.unwrap_err().kind(), Kind::Unsupported);
    }

    #[tokio::test]
    async fn tokens_become_text_again_and_chats_are_passed_on() {
        let provider = Tiktoken::around(Arc::new(Fake::says("hi")));
        let back = DetokenizeRequest { model: "gpt-4".into(), tokens: vec![83, 1609, 5963], ..Default::default() };
        let reply = provider.call(&Call::new(back, Delivery::Whole)).await.unwrap();
        assert_eq!(reply.single(|f| if let Frame::Text(t) = f { Some(t) } else { None }).await.unwrap(), "tiktoken");
        let chat = provider.call(&Call::new(ChatRequest::new("?"), Delivery::Whole)).await.unwrap();
        assert_eq!(chat.chat().await.unwrap().text, "hi");
    }
}

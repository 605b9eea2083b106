//! Counts the tokens of OpenAI's models here, since its API has no route for it.
use std::sync::Arc;

use tiktoken_rs::{CoreBPE, bpe_for_model, model::get_context_size, o200k_base_singleton};

use super::{Counted, Counter};
use crate::call::*;
use crate::error::{Error, Result};

/// What OpenAI's guide adds for each message, and once for the answer that begins.
const PER_MESSAGE: usize = 3;

/// OpenAI's vocabularies. A text is counted exactly. A conversation is counted by OpenAI's documented formula for texts; tools
/// and images are not in it, so that a prompt with them costs more than this says.
pub(in crate::provider) struct Tiktoken;

impl Tiktoken {
    pub(in crate::provider) fn around(inner: Arc<dyn Provider>) -> Arc<dyn Provider> {
        Counted::around(inner, Tiktoken)
    }
}

impl Counter for Tiktoken {
    fn tokens(&self, call: &Call, request: &TokenizeRequest) -> Result<Tokens> {
        let max_model_len = get_context_size(&call.model).and_then(|n| u32::try_from(n).ok());
        Ok(Tokens { max_model_len, ..tokens(vocabulary(&call.model), &request.prompt) })
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

fn tokens(vocabulary: &CoreBPE, prompt: &Prompt) -> Tokens {
    match prompt {
        Prompt::Text(text) => {
            let tokens = vocabulary.encode_ordinary(text);
            Tokens { count: tokens.len(), tokens, ..Tokens::default() }
        }
        Prompt::Chat(messages) => {
            let said = |message: &Message| PER_MESSAGE + 1 + vocabulary.count_ordinary(&message.content.text());
            let count = PER_MESSAGE + messages.iter().map(said).sum::<usize>();
            Tokens { count, ..Tokens::default() }
        }
    }
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
    async fn tokens_become_text_again_and_chats_are_passed_on() {
        let provider = Tiktoken::around(Arc::new(Fake::says("hi")));
        let back = DetokenizeRequest { model: "gpt-4".into(), tokens: vec![83, 1609, 5963] };
        let reply = provider.call(&Call::new(back, Delivery::Whole)).await.unwrap();
        assert_eq!(reply.single(|f| if let Frame::Text(t) = f { Some(t) } else { None }).await.unwrap(), "tiktoken");
        let chat = provider.call(&Call::new(ChatRequest::new("?"), Delivery::Whole)).await.unwrap();
        assert_eq!(chat.chat().await.unwrap().text, "hi");
    }
}

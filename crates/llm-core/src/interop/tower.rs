//! `Llm` as a tower `Service`, for those who have a stack of layers already. It is always ready: the queue is inside, and a
//! service that takes turns in `poll_ready` would let go of them at the headers of a stream.
use std::task::{Context, Poll};

use tower_service::Service;

use crate::call::*;
use crate::error::{Error, Result};
use crate::llm::{ChatStream, Llm};

/// A conversation to answer piece by piece: [`Llm::stream`] as a service's request.
///
/// ```
/// use llm_core::interop::Streaming;
/// use tower_service::Service;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # let mut llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("Once upon a time"))?;
/// let whole = llm.call(llm_core::ChatRequest::new("Why is the sky blue?")).await?;
/// let mut pieces = llm.call(Streaming("Tell me a story.".into())).await?;
/// while let Some(text) = pieces.next_text().await? {
///     print!("{text}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Streaming(pub ChatRequest);

macro_rules! services {
    ($($request:ty => $verb:ident -> $answer:ty),* $(,)?) => {$(
        impl Service<$request> for Llm {
            type Response = $answer;
            type Error = Error;
            type Future = BoxFuture<'static, Result<$answer>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: $request) -> Self::Future {
                let llm = self.clone();
                Box::pin(async move { llm.$verb(request).await })
            }
        }
    )*};
}
services!(
    ChatRequest => chat -> ChatReply,
    CompleteRequest => complete -> ChatReply,
    EmbedRequest => embed -> Embeddings,
    RerankRequest => rank -> Ranking,
    ScoreRequest => score -> Scores,
    Streaming => stream -> ChatStream,
);

impl From<Streaming> for ChatRequest {
    fn from(streaming: Streaming) -> ChatRequest {
        streaming.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[tokio::test]
    async fn every_verb_is_a_service() {
        let mut llm = Llm::new(&Config::from_toml("[models.a]\nprovider = 'fake'").unwrap()).unwrap();
        assert_eq!(llm.call(ChatRequest::new("hi")).await.unwrap().text, "hi");
        assert_eq!(llm.call(EmbedRequest::new(["a", "b"])).await.unwrap().vectors.len(), 2);
        let mut stream = llm.call(Streaming("one two".into())).await.unwrap();
        assert_eq!(stream.next_text().await.unwrap().as_deref(), Some("one "));
    }
}

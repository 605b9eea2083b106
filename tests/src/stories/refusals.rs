//! What is refused, and as what: programs act on the kind of an error, and it must not depend on the door.

use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_core::{
    ChatRequest, CompleteRequest, EmbedRequest, Error, Kind, Llm, Operation, RerankRequest, Result, ScoreRequest,
};

use super::chat::capital;
use super::{CHAT, Door, EMBED};

/// Refused whole and as a stream, as an error of this kind that says this; at once, since to try again is of no use.
async fn refuses(llm: &Llm, request: ChatRequest, kind: Kind, says: &str) {
    let since = Instant::now();
    let whole = llm.chat(request.clone()).await.expect_err(says);
    let stream = llm.stream(request).await.err().expect("a stream is refused before it begins");
    for error in [whole, stream] {
        assert!(error.kind() == kind && error.message().contains(says), "{says}: {error:?}");
    }
    assert!(since.elapsed() < Duration::from_secs(5), "{says}: {:?}", since.elapsed());
}

pub(super) async fn a_question_that_is_wrong_is_invalid(door: Arc<Door>) -> Result<()> {
    for (request, says) in [
        (capital().temperature(5.0), "temperature"),
        (capital().top_p(3.0), "top_p"),
        (capital().max_tokens(0), "max_tokens"),
        (capital().extra("logprobs", true).extra("top_logprobs", 50), "logprobs"),
        (ChatRequest::from(vec![]), ""),
    ] {
        refuses(&door.llm, request, Kind::Invalid, says).await;
    }
    Ok(())
}

pub(super) async fn an_unknown_model_is_not_found(door: Arc<Door>) -> Result<()> {
    refuses(&door.llm, capital().model("gpt-9"), Kind::NotFound, "gpt-9").await;
    let error = door.llm.embed(EmbedRequest::from("x").model("gpt-9")).await.expect_err("there is no gpt-9");
    // Of vLLMs the one that chats has other names, and cannot embed: it says the one or the other.
    assert!(matches!(error.kind(), Kind::NotFound | Kind::Unsupported), "{error:?}");
    Ok(())
}

pub(super) async fn a_prompt_that_does_not_fit_is_told_as_such(door: Arc<Door>) -> Result<()> {
    let long = "x ".repeat(20_000);
    refuses(&door.llm, ChatRequest::new(&long), Kind::ContextLength, "maximum context length").await;
    let error = door.llm.complete(CompleteRequest::new(&long)).await.expect_err("it does not fit");
    assert_eq!(error.kind(), Kind::ContextLength, "{error:?}");
    assert!(error.message().contains("4096"), "{error}");
    Ok(())
}

pub(super) async fn nothing_to_embed_is_invalid(door: Arc<Door>) -> Result<()> {
    let error = door.llm.embed(EmbedRequest::default().model(EMBED)).await.expect_err("there is no text");
    assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
    Ok(())
}

pub(super) async fn a_text_that_does_not_fit_is_told_as_such(door: Arc<Door>) -> Result<()> {
    let texts = ["short".to_owned(), "word ".repeat(9_000)];
    let error = door.llm.embed(EmbedRequest::new(texts).model(EMBED)).await.expect_err("it does not fit");
    assert_eq!(error.kind(), Kind::ContextLength, "{error:?}");
    Ok(())
}

/// A chat model does not embed, an embedding model does not talk, neither scores if the house serves no such thing.
pub(super) async fn what_a_model_cannot_is_unsupported(door: Arc<Door>) -> Result<()> {
    let llm = &door.llm;
    let unsupported = |what: &str, error: Error| assert_eq!(error.kind(), Kind::Unsupported, "{what}: {error:?}");
    unsupported("embed", llm.embed(EmbedRequest::from("x").model(CHAT)).await.expect_err("it chats"));
    unsupported("chat", llm.chat(capital().model(EMBED)).await.expect_err("it embeds"));
    unsupported("stream", llm.stream(capital().model(EMBED)).await.err().expect("it embeds"));
    let text = CompleteRequest { model: EMBED.into(), ..CompleteRequest::new("The capital") };
    unsupported("complete", llm.complete(text).await.expect_err("it embeds"));
    unsupported("rerank", llm.rank(RerankRequest::new("x", ["y"]).model(CHAT)).await.expect_err("it chats"));
    let scored = llm.score(ScoreRequest::new(["x"], ["y"]).model(EMBED)).await;
    if !door.serves(Operation::Score) {
        unsupported("score", scored.expect_err("nobody scores"));
    }
    Ok(())
}

//! One token's worth of work, to see that a model answers: a broken one lists itself and dies of its first question.
use futures_util::StreamExt;

use crate::call::*;
use crate::error::{Error, Kind, Result};

/// What is tried, the cheapest proof of the commonest kinds of model first.
const TRIED: [Operation; 5] =
    [Operation::Chat, Operation::Complete, Operation::Embed, Operation::Rerank, Operation::Score];

/// Asks the smallest question that this model may be asked.
///
/// # Errors
/// That of the model; where it says to every question that it is none for it, the first.
pub(super) async fn ask(provider: &dyn Provider, may: Operations, model: &str) -> Result<()> {
    let mut refused = None;
    for operation in TRIED.into_iter().filter(|&operation| may.contains(operation)) {
        let call = Call::new(question(operation, model), Delivery::Whole);
        match ends(provider, &call).await {
            Err(error) if is_other_kind(&error) => drop(refused.get_or_insert(error)),
            answer => return answer,
        }
    }
    refused.map_or(Ok(()), Err)
}

async fn ends(provider: &dyn Provider, call: &Call) -> Result<()> {
    let mut frames = provider.call(call).await?.events();
    while let Some(frame) = frames.next().await {
        frame?;
    }
    Ok(())
}

/// A model of vectors has no route for conversations, and one without a template no answer to them.
fn is_other_kind(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Unsupported | Kind::Invalid)
}

fn question(operation: Operation, model: &str) -> Request {
    let (word, model) = ("1", model.to_owned());
    let sampling = Sampling { max_tokens: Some(1), temperature: Some(0.0), ..Sampling::default() };
    match operation {
        Operation::Complete => Request::Complete(CompleteRequest { model, sampling, ..CompleteRequest::new(word) }),
        Operation::Embed => Request::Embed(EmbedRequest::new([word]).model(model)),
        Operation::Rerank => Request::Rerank(RerankRequest { model, ..RerankRequest::new(word, [word]) }),
        Operation::Score => Request::Score(ScoreRequest { model, ..ScoreRequest::new([word], [word]) }),
        _ => Request::Chat(ChatRequest { sampling, ..ChatRequest::new(word).model(model) }),
    }
}

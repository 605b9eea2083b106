//! That it refuses what it cannot do, and what it does beside answering: vectors, ranks, counts and lists.
use futures_util::StreamExt;

use super::{Kept, holds, told};
use crate::call::*;
use crate::error::Kind;
use crate::testkit::Subject;

pub(super) async fn unsupported(subject: &Subject<'_>) -> Kept {
    let requests: [Request; 7] = [
        subject.question.clone().into(),
        CompleteRequest::new("The capital of France is").into(),
        EmbedRequest::new(["a text"]).into(),
        TokenizeRequest {
            model: String::new(),
            prompt: "a text".into(),
            add_special_tokens: true,
            extra: Default::default(),
        }
        .into(),
        RerankRequest::new("a question", ["a text"]).into(),
        ScoreRequest::new(["a question"], ["a text"]).into(),
        DetokenizeRequest { tokens: vec![1], ..DetokenizeRequest::default() }.into(),
    ];
    for request in requests.into_iter().filter(|request| !subject.provider.serves().contains(request.operation())) {
        let operation = request.operation();
        match subject.provider.call(&Call::new(request, Delivery::Whole)).await {
            Ok(_) => return Err(format!("it answers {operation}, which it says it does not serve")),
            Err(error) if error.kind() == Kind::Unsupported => {}
            Err(error) => return Err(format!("{operation}: {error:?}")),
        }
    }
    Ok(())
}

pub(super) async fn refuses(subject: &Subject<'_>) -> Kept {
    for (call, kind) in &subject.refusals {
        let answer = async {
            subject
                .provider
                .call(call)
                .await?
                .events()
                .collect::<Vec<_>>()
                .await
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
        };
        let error = answer.await.err().ok_or_else(|| format!("{call:?}: it answers, and should refuse as {kind:?}"))?;
        holds(error.kind() == *kind, || format!("{call:?}: {error:?} instead of {kind:?}"))?;
        holds(!error.message().is_empty(), || format!("{call:?}: an error without words"))?;
        let prompt = call.chat().map(ChatRequest::last_text).unwrap_or_default();
        let is_told = prompt.len() > 20 && error.to_string().contains(&prompt);
        holds(!is_told, || format!("{call:?}: the prompt stands in the error"))?;
    }
    Ok(())
}

pub(super) async fn completes(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Complete) {
        return Ok(());
    }
    let (whole, streamed) = (continued(subject, Delivery::Whole).await?, continued(subject, Delivery::Stream).await?);
    holds(!whole.is_empty(), || "it says nothing".into())?;
    holds(whole == streamed, || format!("it streams {streamed:?}, and says {whole:?} whole"))
}

async fn continued(subject: &Subject<'_>, delivery: Delivery) -> Result<String, String> {
    let (model, prompt) = (subject.model.clone(), "The capital of France is".to_owned());
    let sampling = Sampling { temperature: Some(0.0), max_tokens: Some(8), ..Sampling::default() };
    let request = CompleteRequest { model, prompt, sampling, ..CompleteRequest::default() };
    let reply = subject.provider.call(&Call::new(request, delivery)).await.map_err(told)?;
    Ok(reply.chat().await.map_err(told)?.text)
}

pub(super) async fn embeds(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Embed) {
        return Ok(());
    }
    let texts = ["the cat sat on the mat", "stock markets fell today", "a third text"];
    let together = vectors(subject, &texts).await?;
    holds(together.len() == texts.len(), || format!("{} texts, {} vectors", texts.len(), together.len()))?;
    let length = together[0].len();
    holds(length > 0 && together.iter().all(|v| v.len() == length), || "vectors of different lengths".into())?;
    holds(together.iter().flatten().all(|x| x.is_finite()), || "a vector with something that is no number".into())?;
    for (text, among) in texts.iter().zip(&together) {
        let alone = vectors(subject, &[text]).await?.pop().ok_or("no vector")?;
        let cosine = cosine(&alone, among);
        holds(cosine > 0.99, || format!("alone and among others a text has vectors with a cosine of {cosine}"))?;
    }
    Ok(())
}

async fn vectors(subject: &Subject<'_>, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
    let mut request = EmbedRequest::new(texts.iter().copied());
    request.model.clone_from(&subject.model);
    let reply = subject.provider.call(&Call::new(request, Delivery::Whole)).await.map_err(told)?;
    let embeddings = reply.single(|frame| if let Frame::Vectors(v) = frame { Some(v) } else { None });
    Ok(embeddings.await.map_err(told)?.vectors)
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt().max(f32::MIN_POSITIVE)
}

pub(super) async fn ranks(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Rerank) {
        return Ok(());
    }
    let documents = ["stock markets fell today", "the cat sat on the mat"];
    let request = RerankRequest::new("where did the cat sit?", documents).model(&subject.model);
    let reply = subject.provider.call(&Call::new(request, Delivery::Whole)).await.map_err(told)?;
    let ranking =
        reply.single(|frame| if let Frame::Ranking(r) = frame { Some(r) } else { None }).await.map_err(told)?;
    let mut places: Vec<_> = ranking.results.iter().map(|place| place.index).collect();
    let is_sorted = ranking.results.is_sorted_by(|one, next| one.relevance_score >= next.relevance_score);
    holds(is_sorted, || format!("its order is not that of its scores: {:?}", ranking.results))?;
    places.sort_unstable();
    holds(places == [0, 1], || format!("two documents, and places for {places:?}"))
}

pub(super) async fn scores(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Score) {
        return Ok(());
    }
    let documents = ["stock markets fell today", "the cat sat on the mat"];
    let together = scored(subject, &documents).await?;
    holds(together.len() == documents.len(), || format!("{} texts, {together:?}", documents.len()))?;
    holds(together.iter().all(|score| score.is_finite()), || "a score that is no number".into())?;
    for (document, among) in documents.iter().zip(together) {
        let alone = scored(subject, &[*document]).await?.pop().ok_or("no score")?;
        holds((alone - among).abs() < 0.01, || format!("alone a text has {alone}, among others {among}"))?;
    }
    Ok(())
}

async fn scored(subject: &Subject<'_>, documents: &[&str]) -> Result<Vec<f32>, String> {
    let request = ScoreRequest::new(["where did the cat sit?"], documents.iter().copied()).model(&subject.model);
    let reply = subject.provider.call(&Call::new(request, Delivery::Whole)).await.map_err(told)?;
    let scores = reply.single(|frame| if let Frame::Scores(scores) = frame { Some(scores) } else { None });
    Ok(scores.await.map_err(told)?.scores)
}

pub(super) async fn detokenizes(subject: &Subject<'_>) -> Kept {
    let served = [Operation::Tokenize, Operation::Detokenize];
    if !served.into_iter().all(|operation| subject.operations.contains(operation)) {
        return Ok(());
    }
    let (long, short) = (ids(subject, "one two three").await?, ids(subject, "seven").await?);
    if long.is_empty() || short.is_empty() {
        return Ok(()); // it counts, and names none
    }
    let (long, short) = (text_of(subject, long).await?, text_of(subject, short).await?);
    holds(!long.is_empty() && long != short, || format!("{long:?} for a long text, {short:?} for a short one"))
}

async fn ids(subject: &Subject<'_>, text: &str) -> Result<Vec<u32>, String> {
    let model = subject.model.clone();
    let request = TokenizeRequest { model, prompt: text.into(), add_special_tokens: false, extra: Default::default() };
    let reply = subject.provider.call(&Call::new(request, Delivery::Whole)).await.map_err(told)?;
    let tokens = reply.single(|frame| if let Frame::Tokens(tokens) = frame { Some(tokens) } else { None });
    Ok(tokens.await.map_err(told)?.tokens)
}

async fn text_of(subject: &Subject<'_>, tokens: Vec<u32>) -> Result<String, String> {
    let request = DetokenizeRequest { model: subject.model.clone(), tokens, ..Default::default() };
    let reply = subject.provider.call(&Call::new(request, Delivery::Whole)).await.map_err(told)?;
    reply.single(|frame| if let Frame::Text(text) = frame { Some(text) } else { None }).await.map_err(told)
}

pub(super) async fn counts(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Tokenize) {
        return Ok(());
    }
    let count = async |text: &str| {
        let model = subject.model.clone();
        let request =
            TokenizeRequest { model, prompt: text.into(), add_special_tokens: true, extra: Default::default() };
        let reply = subject.provider.call(&Call::new(request, Delivery::Whole)).await.map_err(told)?;
        let tokens =
            reply.single(|frame| if let Frame::Tokens(t) = frame { Some(t) } else { None }).await.map_err(told)?;
        let is_whole = tokens.tokens.is_empty() || tokens.tokens.len() == tokens.count;
        holds(is_whole, || format!("it counts {} and lists {}", tokens.count, tokens.tokens.len()))?;
        Ok::<_, String>(tokens.count)
    };
    let (short, long) = (count("one two").await?, count("one two three four five six seven eight").await?);
    holds(0 < short && short < long, || format!("{short} for a short text, {long} for a longer one"))
}

pub(super) async fn lists(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Models) {
        return Ok(());
    }
    let reply = subject.provider.call(&Call::new(Request::Models, Delivery::Whole)).await.map_err(told)?;
    let models = reply.models().await.map_err(told)?;
    holds(!models.is_empty() && models.iter().all(|model| !model.id.is_empty()), || format!("{models:?}"))
}

//! Vectors: of one length, near where texts are related, and in the texts' order.

use std::sync::Arc;

use llm_core::{EmbedRequest, Result};

use super::{Door, EMBED};
use crate::factor;

async fn vectors<T: Into<String>>(door: &Door, texts: impl IntoIterator<Item = T>) -> Result<Vec<Vec<f32>>> {
    Ok(door.llm.embed(EmbedRequest::new(texts).model(EMBED)).await?.vectors)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

pub(super) async fn a_text_has_a_vector_of_length_one(door: Arc<Door>) -> Result<()> {
    let answer = door.llm.embed(EmbedRequest::from("A cat sits on the mat.").model(EMBED)).await?;
    assert_eq!((answer.vectors.len(), answer.vectors[0].len()), (1, 384));
    assert!((dot(&answer.vectors[0], &answer.vectors[0]) - 1.0).abs() < 1e-3);
    // The words, and the tokenizer's own first and last token.
    assert_eq!(answer.usage.expect("it tells what it costs").prompt_tokens, 9);
    Ok(())
}

pub(super) async fn related_texts_are_near(door: Arc<Door>) -> Result<()> {
    let texts = ["A cat sits on the mat.", "A cat is sitting on a rug.", "The stock market fell today."];
    let all = vectors(&door, texts).await?;
    let (near, far) = (dot(&all[0], &all[1]), dot(&all[0], &all[2]));
    assert!(near > 0.6 && far < 0.2, "{near} {far}");
    Ok(())
}

/// Batches of 32: the 64 of a full run, and fewer where time is short.
pub(super) async fn many_texts_keep_their_order(door: Arc<Door>) -> Result<()> {
    const NOUNS: [&str; 7] = ["cats", "ships", "money", "rain", "music", "stones", "bread"];
    let number = 32 * (4 * factor()).min(64);
    let texts: Vec<String> = (0..number).map(|n| format!("{n} {}", NOUNS[n % NOUNS.len()])).collect();
    let all = vectors(&door, texts.clone()).await?;
    assert_eq!(all.len(), number);
    for place in [0, 31, 32, number / 2 + 5, number - 1] {
        let alone = vectors(&door, [texts[place].as_str()]).await?.remove(0);
        let nearest = (0..number).max_by(|&a, &b| dot(&all[a], &alone).total_cmp(&dot(&all[b], &alone)));
        assert_eq!(nearest, Some(place), "{}", texts[place]);
    }
    Ok(())
}

pub(super) async fn vectors_in_base64_are_the_same(door: Arc<Door>) -> Result<()> {
    let plain = vectors(&door, ["The stock market fell today."]).await?;
    let request = EmbedRequest { base64: true, ..EmbedRequest::from("The stock market fell today.").model(EMBED) };
    let packed = door.llm.embed(request).await?.vectors;
    assert!(plain[0].iter().zip(&packed[0]).all(|(a, b)| (a - b).abs() < 1e-5) && packed[0].len() == 384);
    Ok(())
}

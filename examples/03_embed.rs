//! Finds the sentence that is nearest in meaning to a question.
use llm_core::Llm;

#[tokio::main]
async fn main() -> llm_core::Result<()> {
    let llm = Llm::from_env(&|name| std::env::var(name).ok(), &[llm_engine::KIND])?;

    let sentences = ["The cat sleeps on the sofa.", "Shares fell sharply on Monday.", "Water boils at 100 degrees."];
    let question = "Which animal is at rest?";

    let texts = sentences.into_iter().chain([question]).map(str::to_owned).collect::<Vec<_>>();
    let mut vectors = llm.embed(texts).await?.vectors;
    let asked = vectors.pop().expect("one vector a text");

    let mut ranked: Vec<_> = sentences.iter().zip(&vectors).map(|(s, v)| (cosine(v, &asked), s)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (likeness, sentence) in ranked {
        println!("{likeness:.3}  {sentence}");
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}

//! Log probabilities of a token and of its likeliest rivals, as OpenAI's `logprobs` have them.

use crate::llama::{Model, Token};
use serde_json::{Value, json};

/// What a client wants to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// How many of the likeliest tokens beside the chosen one.
    pub(crate) top: usize,
    pub(crate) style: Style,
}

/// Chats and completions write them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Chat,
    Completion,
}

/// What the model thought of one token.
pub(crate) struct Logprobs {
    chosen: (Token, f32),
    top: Vec<(Token, f32)>,
}

impl Logprobs {
    /// From the raw logits: what the model thinks, before temperature and penalties.
    pub(crate) fn of(logits: &[f32], chosen: Token, top: usize) -> Logprobs {
        let best = logits.iter().fold(f32::NEG_INFINITY, |best, logit| best.max(*logit));
        let total = best + logits.iter().map(|logit| (logit - best).exp()).sum::<f32>().ln();
        let mut all: Vec<(Token, f32)> =
            logits.iter().enumerate().map(|(id, logit)| (id as Token, logit - total)).collect();
        let chosen = all[chosen as usize];
        Logprobs { chosen, top: likeliest(&mut all, top) }
    }

    /// One token's worth of `choices[].logprobs`; lists of several tokens are joined by [`join`].
    pub(crate) fn written(&self, model: &Model, style: Style) -> Value {
        match style {
            Style::Chat => json!({ "content": [self.chat(model)] }),
            Style::Completion => self.completion(model),
        }
    }

    fn chat(&self, model: &Model) -> Value {
        let mut entry = one(model, self.chosen);
        entry["top_logprobs"] = self.top.iter().map(|rival| one(model, *rival)).collect();
        entry
    }

    fn completion(&self, model: &Model) -> Value {
        let top = self.top.iter().map(|(token, logprob)| (text(model, *token), json!(finite(*logprob))));
        json!({
            "tokens": [text(model, self.chosen.0)],
            "token_logprobs": [finite(self.chosen.1)],
            "top_logprobs": [Value::Object(top.collect())],
        })
    }
}

/// Appends the lists of the next token to those of the tokens before.
pub(crate) fn join(so_far: &mut Value, next: Value) {
    let Value::Object(lists) = next else { return };
    for (name, list) in lists {
        match (so_far[&name].as_array_mut(), list) {
            (Some(ours), Value::Array(theirs)) => ours.extend(theirs),
            (_, list) => so_far[&name] = list,
        }
    }
}

fn likeliest(all: &mut Vec<(Token, f32)>, count: usize) -> Vec<(Token, f32)> {
    let order = |a: &(Token, f32), b: &(Token, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let count = count.min(all.len());
    if count < all.len() {
        all.select_nth_unstable_by(count, order);
    }
    all.truncate(count);
    all.sort_unstable_by(order);
    std::mem::take(all)
}

fn one(model: &Model, (token, logprob): (Token, f32)) -> Value {
    let bytes = model.spelling(token);
    json!({ "token": String::from_utf8_lossy(&bytes), "logprob": finite(logprob), "bytes": bytes })
}

fn text(model: &Model, token: Token) -> String {
    String::from_utf8_lossy(&model.spelling(token)).into_owned()
}

/// JSON has no infinity; OpenAI writes -9999 for "never".
fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_all_tokens_add_up_to_one() {
        let logprobs = Logprobs::of(&[1.0, 2.0, 3.0, f32::NEG_INFINITY], 1, 4);
        let sum: f32 = logprobs.top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert_eq!(logprobs.top[0].0, 2);
        assert_eq!(logprobs.chosen, logprobs.top[1]);
    }

    #[test]
    fn the_lists_of_several_tokens_become_one() {
        let mut all = json!({ "content": [1] });
        join(&mut all, json!({ "content": [2, 3] }));
        assert_eq!(all, json!({ "content": [1, 2, 3] }));
    }
}

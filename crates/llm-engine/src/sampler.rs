//! Chooses the next token from its logits: bias and penalties, temperature, then top-k, top-p and min-p, as OpenAI and vLLM
//! order them.
//!
//! In Rust and not llama.cpp's chain: that copies twelve bytes a vocabulary entry for every token, picks some token when a
//! logit is NaN, and counts one history for penalties that OpenAI counts over the answer alone.

use crate::llama::{Model, Token};
use llm_core::{Error, Kind, Result, Sampling};
use std::collections::HashMap;

/// Chooses tokens for one answer.
pub(crate) struct Sampler {
    how: How,
    bias: Vec<(usize, f32)>,
    said: HashMap<Token, u32>,
    random: fastrand::Rng,
    candidates: Vec<Candidate>,
}

/// The settings with their defaults filled in.
struct How {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    presence: f32,
    frequency: f32,
    repetition: f32,
}

#[derive(Clone, Copy)]
struct Candidate {
    id: usize,
    /// A logit, then a share of the likeliest candidate's probability.
    weight: f32,
}

impl Sampler {
    /// Checks the settings; the error names the field.
    pub(crate) fn new(sampling: &Sampling, model: &Model) -> Result<Sampler> {
        Ok(Sampler {
            how: How::read(sampling)?,
            bias: bias(sampling, model)?,
            said: HashMap::new(),
            random: sampling.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            candidates: Vec::new(),
        })
    }

    /// Never chooses these: the answer goes on to its limit.
    pub(crate) fn forbid(&mut self, tokens: impl Iterator<Item = Token>) {
        self.bias.extend(tokens.map(|token| (token as usize, f32::NEG_INFINITY)));
    }

    /// The prompt's tokens count for the repetition penalty.
    pub(crate) fn read(&mut self, prompt: &[Token]) {
        if self.how.repetition != 1.0 {
            self.said.extend(prompt.iter().map(|token| (*token, 0)));
        }
    }

    /// The next token. A model that computes nonsense fails the request instead of babbling.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Result<Token> {
        refuse_nonsense(logits)?;
        let token = match self.how.temperature {
            0.0 => self.likeliest(logits),
            _ => self.drawn(logits),
        };
        self.note(token as Token);
        Ok(token as Token)
    }

    fn note(&mut self, token: Token) {
        if self.how.remembers() {
            *self.said.entry(token).or_default() += 1;
        }
    }

    fn likeliest(&mut self, logits: &[f32]) -> usize {
        if self.is_plain() {
            return argmax(logits);
        }
        self.weigh(logits);
        let best = self.candidates.iter().reduce(|a, b| if b.weight > a.weight { b } else { a });
        best.map_or(0, |candidate| candidate.id)
    }

    fn drawn(&mut self, logits: &[f32]) -> usize {
        self.weigh(logits);
        let likely = self.likely();
        self.keep_likeliest(likely);
        let kept = self.cut_by_probability();
        self.pick(kept)
    }

    fn is_plain(&self) -> bool {
        self.bias.is_empty() && self.said.is_empty()
    }

    /// Fills the candidates: the logits after bias and penalties.
    fn weigh(&mut self, logits: &[f32]) {
        self.candidates.clear();
        self.candidates.extend(logits.iter().enumerate().map(|(id, logit)| Candidate { id, weight: *logit }));
        for (token, times) in &self.said {
            let weight = &mut self.candidates[*token as usize].weight;
            *weight = self.how.penalized(*weight, *times);
        }
        for (id, bias) in &self.bias {
            self.candidates[*id].weight += bias;
        }
    }

    /// How many candidates can matter: top-k, or those with any probability to speak of.
    fn likely(&mut self) -> usize {
        let best = self.candidates.iter().fold(f32::NEG_INFINITY, |best, c| best.max(c.weight));
        // e^-18 of the likeliest: all 49,000 tokens of a vocabulary, so unlikely, weigh a thousandth together.
        let floor = best - 18.0 * self.how.temperature;
        self.candidates.retain(|candidate| candidate.weight >= floor);
        match self.how.top_k {
            0 => self.candidates.len(),
            k => k.min(self.candidates.len()),
        }
    }

    /// The likeliest `count`, likeliest first; equal ones by id, so that a seed gives the same answer everywhere.
    fn keep_likeliest(&mut self, count: usize) {
        let order = |a: &Candidate, b: &Candidate| b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id));
        if count < self.candidates.len() {
            self.candidates.select_nth_unstable_by(count, order);
            self.candidates.truncate(count);
        }
        self.candidates.sort_unstable_by(order);
    }

    /// Turns logits into shares and tells how many candidates top-p and min-p leave.
    fn cut_by_probability(&mut self) -> usize {
        let best = self.candidates.first().map_or(0.0, |candidate| candidate.weight);
        for candidate in &mut self.candidates {
            candidate.weight = ((candidate.weight - best) / self.how.temperature).exp();
        }
        let enough = self.how.top_p * self.candidates.iter().map(|candidate| candidate.weight).sum::<f32>();
        let mut sum = 0.0;
        let inside = |candidate: &&Candidate| {
            let before = sum;
            sum += candidate.weight;
            before < enough && candidate.weight >= self.how.min_p
        };
        self.candidates.iter().take_while(inside).count().max(1)
    }

    fn pick(&mut self, kept: usize) -> usize {
        let candidates = &mut self.candidates[..kept];
        // By id: two that are about as likely change places with the rounding, which is another one in every batch, and a
        // seed would not repeat its answer.
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        let mut left = self.random.f32() * candidates.iter().map(|candidate| candidate.weight).sum::<f32>();
        let chosen = candidates.iter().find(|candidate| {
            left -= candidate.weight;
            left < 0.0
        });
        // Rounding may leave a crumb after the last one.
        chosen.or(candidates.last()).map_or(0, |candidate| candidate.id)
    }
}

impl How {
    fn read(sampling: &Sampling) -> Result<How> {
        Ok(How {
            temperature: within("temperature", sampling.temperature, 1.0, 0.0..=2.0)?,
            top_k: sampling.top_k.unwrap_or(0) as usize,
            top_p: within("top_p", sampling.top_p, 1.0, 0.0..=1.0)?,
            min_p: within("min_p", sampling.min_p, 0.0, 0.0..=1.0)?,
            presence: within("presence_penalty", sampling.presence_penalty, 0.0, -2.0..=2.0)?,
            frequency: within("frequency_penalty", sampling.frequency_penalty, 0.0, -2.0..=2.0)?,
            repetition: within("repetition_penalty", sampling.repetition_penalty, 1.0, f32::MIN_POSITIVE..=10.0)?,
        })
    }

    fn remembers(&self) -> bool {
        self.presence != 0.0 || self.frequency != 0.0 || self.repetition != 1.0
    }

    /// `times` counts the answer only; a token of the prompt stands there with 0.
    fn penalized(&self, logit: f32, times: u32) -> f32 {
        let repeated = if logit > 0.0 { logit / self.repetition } else { logit * self.repetition };
        let present = if times > 0 { self.presence } else { 0.0 };
        repeated - present - self.frequency * times as f32
    }
}

fn within(field: &str, value: Option<f32>, default: f32, range: std::ops::RangeInclusive<f32>) -> Result<f32> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let least =
        if *range.start() == f32::MIN_POSITIVE { "more than 0".into() } else { format!("at least {}", range.start()) };
    Err(Error::invalid(format!("`{field}` must be {least} and at most {}", range.end())).param(field))
}

fn bias(sampling: &Sampling, model: &Model) -> Result<Vec<(usize, f32)>> {
    let one = |(token, bias): &(u32, f32)| {
        let known = Token::try_from(*token).is_ok_and(|token| model.knows(token));
        if known && (-100.0..=100.0).contains(bias) {
            return Ok((*token as usize, *bias));
        }
        Err(Error::invalid("`logit_bias` needs token ids of this model and values from -100 to 100")
            .param("logit_bias"))
    };
    sampling.logit_bias.iter().map(one).collect()
}

fn argmax(logits: &[f32]) -> usize {
    // In two passes, because the first is vectorised and the second ends early: a fifth of the time of one clever pass.
    let best = logits.iter().fold(f32::NEG_INFINITY, |best, logit| best.max(*logit));
    logits.iter().position(|logit| *logit == best).unwrap_or(0)
}

/// NaN or infinite logits would silently choose some token. Minus infinity is a token the model rules out, which is fine
/// unless it rules out all.
fn refuse_nonsense(logits: &[f32]) -> Result<()> {
    let sound = logits.iter().fold(true, |sound, logit| sound & (*logit < f32::INFINITY));
    if sound && argmax_value(logits) > f32::NEG_INFINITY {
        return Ok(());
    }
    Err(Error::new(Kind::Internal, "the model computed no usable numbers (NaN); its file may be damaged"))
}

fn argmax_value(logits: &[f32]) -> f32 {
    logits.iter().fold(f32::NEG_INFINITY, |best, logit| best.max(*logit))
}

/// Tokens that end an answer, for [`Sampler::forbid`].
pub(crate) fn endings(model: &Model) -> Vec<Token> {
    (0..model.vocabulary() as Token).filter(|token| model.ends(*token)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(sampling: Sampling) -> Sampler {
        let how = How::read(&sampling).unwrap();
        let random = sampling.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Sampler { how, bias: Vec::new(), said: HashMap::new(), random, candidates: Vec::new() }
    }

    fn drawn(sampling: Sampling, logits: &[f32], times: usize) -> Vec<usize> {
        let mut sampler = sampler(Sampling { seed: Some(1), ..sampling });
        let mut counts = vec![0; logits.len()];
        (0..times).for_each(|_| counts[sampler.choose(logits).unwrap() as usize] += 1);
        counts
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [4f32.ln(), 2f32.ln(), 2f32.ln(), f32::NEG_INFINITY];
        let counts = drawn(Sampling::default(), &logits, 8000);
        let near = |count: usize, expected: usize| count.abs_diff(expected) < 250;
        assert!(near(counts[0], 4000) && near(counts[1], 2000) && near(counts[2], 2000), "{counts:?}");
        assert_eq!(counts[3], 0);
    }

    #[test]
    fn a_seed_outlives_the_rounding_of_another_batch() {
        let mut random = fastrand::Rng::with_seed(1);
        let logits: Vec<f32> = (0..2000).map(|_| random.f32()).collect();
        let rounded: Vec<f32> = logits.iter().map(|logit| logit + random.f32() * 1e-3).collect();
        let chosen =
            |seed, logits: &[f32]| sampler(Sampling { seed: Some(seed), ..Sampling::default() }).choose(logits);
        let others = (0..500).filter(|&seed| chosen(seed, &logits).unwrap() != chosen(seed, &rounded).unwrap()).count();
        assert!(others <= 5, "{others} of 500 seeds chose another token");
    }

    #[test]
    fn each_cut_leaves_only_the_likeliest() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let kept = |sampling| drawn(sampling, &logits, 300).iter().filter(|count| **count > 0).count();
        assert_eq!(kept(Sampling::default()), 3);
        assert_eq!(kept(Sampling { top_k: Some(2), ..Sampling::default() }), 2);
        assert_eq!(kept(Sampling { top_p: Some(0.6), ..Sampling::default() }), 2);
        assert_eq!(kept(Sampling { top_p: Some(0.0), ..Sampling::default() }), 1);
        assert_eq!(kept(Sampling { min_p: Some(0.5), ..Sampling::default() }), 2);
        assert_eq!(kept(Sampling { temperature: Some(0.0), ..Sampling::default() }), 1);
    }

    #[test]
    fn penalties_count_the_answer_and_repetition_the_prompt_too() {
        let how = |sampling| How::read(&sampling).unwrap();
        let frequency = how(Sampling { frequency_penalty: Some(0.5), ..Sampling::default() });
        assert_eq!((frequency.penalized(3.0, 0), frequency.penalized(3.0, 4)), (3.0, 1.0));
        let presence = how(Sampling { presence_penalty: Some(0.5), ..Sampling::default() });
        assert_eq!((presence.penalized(3.0, 0), presence.penalized(3.0, 4)), (3.0, 2.5));
        let repetition = how(Sampling { repetition_penalty: Some(2.0), ..Sampling::default() });
        assert_eq!((repetition.penalized(3.0, 0), repetition.penalized(-3.0, 4)), (1.5, -6.0));
    }

    #[test]
    fn a_greedy_answer_with_penalties_moves_on() {
        let mut sampler =
            sampler(Sampling { temperature: Some(0.0), frequency_penalty: Some(1.0), ..Sampling::default() });
        let chosen: Vec<Token> = (0..3).map(|_| sampler.choose(&[2.0, 1.5]).unwrap()).collect();
        assert_eq!(chosen, [0, 1, 0]);
    }

    #[test]
    fn numbers_that_are_none_fail_the_answer() {
        let mut greedy = sampler(Sampling { temperature: Some(0.0), ..Sampling::default() });
        for nonsense in [f32::NAN, f32::INFINITY] {
            assert_eq!(greedy.choose(&[1.0, nonsense, 0.0]).unwrap_err().kind(), Kind::Internal);
        }
        assert!(greedy.choose(&[f32::NEG_INFINITY; 2]).is_err());
        assert_eq!(greedy.choose(&[f32::NEG_INFINITY, 0.0]).unwrap(), 1);
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        let error = How::read(&Sampling { temperature: Some(3.0), ..Sampling::default() }).err().unwrap();
        assert_eq!(error.get_param(), Some("temperature"));
        assert!(How::read(&Sampling { top_p: Some(f32::NAN), ..Sampling::default() }).is_err());
    }
}

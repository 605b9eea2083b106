//! Embedding: texts of all requests, one of each in turn, packed into batches, pooled by the model and normalised.

use crate::llama::{Batch, Context, Decoded, Row, Shape, Token};
use llm_core::{Error, Kind, Result};
use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Texts that want vectors.
pub(crate) struct Texts {
    texts: Vec<Vec<Token>>,
    vectors: Vec<Vec<f32>>,
    out: oneshot::Sender<Result<Vec<Vec<f32>>>>,
    _place: OwnedSemaphorePermit,
}

/// The vectors to come. Dropping it is leaving: texts not yet computed never are.
pub(crate) type Vectors = oneshot::Receiver<Result<Vec<Vec<f32>>>>;

impl Texts {
    pub(crate) fn new(texts: Vec<Vec<Token>>, place: OwnedSemaphorePermit) -> (Texts, Vectors) {
        let (out, vectors) = oneshot::channel();
        (Texts { texts, vectors: Vec::new(), out, _place: place }, vectors)
    }

    fn is_deserted(&self) -> bool {
        self.out.is_closed()
    }

    fn is_done(&self) -> bool {
        self.vectors.len() == self.texts.len()
    }
}

pub(crate) struct Worker {
    context: Context,
    inbox: Receiver<Texts>,
    asked: VecDeque<Texts>,
    batch: Batch,
    rows: usize,
    sequences: usize,
}

impl Worker {
    pub(crate) fn new(context: Context, shape: &Shape, inbox: Receiver<Texts>) -> Worker {
        let (rows, sequences) = (shape.batch as usize, shape.sequences as usize);
        Worker { context, inbox, asked: VecDeque::new(), batch: Batch::default(), rows, sequences }
    }

    /// Works until nobody can ask any more and everybody has been answered.
    pub(crate) fn run(mut self) {
        while self.receive() {
            self.asked.retain(|texts| !texts.is_deserted());
            let owners = self.pack();
            if !owners.is_empty() {
                self.compute(owners);
            }
        }
    }

    fn receive(&mut self) -> bool {
        if self.asked.is_empty() {
            match self.inbox.recv() {
                Ok(texts) => self.asked.push_back(texts),
                Err(_) => return false,
            }
        }
        self.asked.extend(self.inbox.try_iter());
        true
    }

    /// Fills a batch with the next text of each request, round and round until no more fits. Tells whose text each
    /// sequence is, as an index into `asked`.
    fn pack(&mut self) -> Vec<usize> {
        self.batch.clear();
        let mut owners: Vec<usize> = Vec::new();
        loop {
            let before = owners.len();
            for owner in 0..self.asked.len() {
                let next = self.asked[owner].vectors.len() + owners.iter().filter(|o| **o == owner).count();
                let Some(text) = self.asked[owner].texts.get(next) else { continue };
                if owners.len() < self.sequences && self.batch.len() + text.len() <= self.rows {
                    add(&mut self.batch, text, owners.len());
                    owners.push(owner);
                }
            }
            if owners.len() == before {
                return owners;
            }
        }
    }

    fn compute(&mut self, owners: Vec<usize>) {
        self.context.clear();
        match self.context.decode(&mut self.batch) {
            Decoded::Done => self.hand_out(&owners),
            other => self.fail(&owners, &format!("llama.cpp could not compute this batch ({other:?})")),
        }
    }

    fn hand_out(&mut self, owners: &[usize]) {
        for (sequence, owner) in owners.iter().enumerate() {
            match self.context.embedding(sequence as i32).and_then(normalized) {
                Some(vector) => self.asked[*owner].vectors.push(vector),
                None => return self.fail(owners, "the model computed no usable vector; its file may be damaged"),
            }
        }
        for texts in take_where(&mut self.asked, |_, texts| texts.is_done()) {
            // It fails only when the client has left.
            let _ = texts.out.send(Ok(texts.vectors));
        }
    }

    fn fail(&mut self, owners: &[usize], why: &str) {
        for texts in take_where(&mut self.asked, |index, _| owners.contains(&index)) {
            let _ = texts.out.send(Err(Error::new(Kind::Internal, why)));
        }
    }
}

fn add(batch: &mut Batch, text: &[Token], sequence: usize) {
    for (position, token) in text.iter().enumerate() {
        batch.add(Row { token: *token, position: position as i32, sequence: sequence as i32, wanted: true });
    }
}

fn take_where(asked: &mut VecDeque<Texts>, wanted: impl Fn(usize, &Texts) -> bool) -> Vec<Texts> {
    let all: Vec<(usize, Texts)> = std::mem::take(asked).into_iter().enumerate().collect();
    let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(index, texts)| wanted(*index, texts));
    asked.extend(left.into_iter().map(|(_, texts)| texts));
    taken.into_iter().map(|(_, texts)| texts).collect()
}

/// Length one, so that a dot product is the cosine.
fn normalized(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let usable = length.is_finite() && length > 0.0;
    usable.then(|| vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::normalized;

    #[test]
    fn vectors_have_length_one_and_nonsense_has_none() {
        assert_eq!(normalized(&[3.0, 4.0]), Some(vec![0.6, 0.8]));
        assert_eq!(normalized(&[0.0, 0.0]), None);
        assert_eq!(normalized(&[f32::NAN, 1.0]), None);
    }
}

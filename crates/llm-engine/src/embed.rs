//! Embedding: texts of all requests, one of each in turn, packed into batches, pooled by the model and normalised.

use crate::aboard::Aboard;
use crate::llama::{Batch, Context, Decoded, Row, Shape, Token};
use llm_core::{Error, Kind, Result};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::task::{self, Poll};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Texts that want vectors.
pub(crate) struct Texts {
    texts: Vec<Vec<Token>>,
    vectors: Vec<Vec<f32>>,
    client: u64,
    out: oneshot::Sender<Result<Vec<Vec<f32>>>>,
    _place: OwnedSemaphorePermit,
}

/// The vectors to come. Dropping it is leaving: texts not yet computed never are, and a batch that nobody else waits for
/// is stopped.
pub(crate) struct Vectors {
    vectors: oneshot::Receiver<Result<Vec<Vec<f32>>>>,
    client: u64,
    aboard: Arc<Aboard>,
}

impl Drop for Vectors {
    fn drop(&mut self) {
        // In this order: the worker looks at the channel after it has taken its clients aboard.
        self.vectors.close();
        self.aboard.leave(self.client);
    }
}

impl Future for Vectors {
    type Output = Result<Vec<Vec<f32>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let died = |_| Error::new(Kind::Internal, "the engine stopped before the vectors were there; see its status");
        Pin::new(&mut self.vectors).poll(cx).map(|vectors| vectors.map_err(died)?)
    }
}

impl Texts {
    pub(crate) fn new(texts: Vec<Vec<Token>>, place: OwnedSemaphorePermit, aboard: &Arc<Aboard>) -> (Texts, Vectors) {
        let (out, vectors) = oneshot::channel();
        let client = aboard.newcomer();
        let vectors = Vectors { vectors, client, aboard: aboard.clone() };
        (Texts { texts, vectors: Vec::new(), client, out, _place: place }, vectors)
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
    aboard: Arc<Aboard>,
    running: Arc<AtomicUsize>,
}

impl Worker {
    pub(crate) fn new(context: Context, shape: &Shape, inbox: Receiver<Texts>) -> Worker {
        let (rows, sequences) = (shape.batch as usize, shape.sequences as usize);
        let (aboard, running) = (Arc::new(Aboard::of(context.abort().clone())), Arc::default());
        Worker { context, inbox, asked: VecDeque::new(), batch: Batch::default(), rows, sequences, aboard, running }
    }

    /// Where clients say that they leave.
    pub(crate) fn aboard(&self) -> Arc<Aboard> {
        self.aboard.clone()
    }

    /// How many requests are being worked on, for those who watch.
    pub(crate) fn running(&self) -> Arc<AtomicUsize> {
        self.running.clone()
    }

    /// Works until nobody can ask any more and everybody has been answered.
    pub(crate) fn run(mut self) {
        while self.receive() {
            self.asked.retain(|texts| !texts.is_deserted());
            self.count();
            let owners = self.pack();
            if !owners.is_empty() {
                self.compute(&owners);
                self.count();
            }
        }
    }

    fn count(&self) {
        self.running.store(self.asked.len(), Relaxed);
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

    fn compute(&mut self, owners: &[usize]) {
        self.context.clear();
        match self.decode(owners) {
            Decoded::Done => self.hand_out(owners),
            Decoded::Aborted => {} // nobody waits for it any more
            other => self.fail(owners, &format!("llama.cpp could not compute this batch ({other:?})")),
        }
    }

    /// Computes the batch as long as one of its owners stays.
    fn decode(&mut self, owners: &[usize]) -> Decoded {
        self.aboard.enter(owners.iter().map(|owner| self.asked[*owner].client));
        for texts in owners.iter().map(|owner| &self.asked[*owner]).filter(|texts| texts.is_deserted()) {
            self.aboard.leave(texts.client);
        }
        let decoded = if self.aboard.is_empty() { Decoded::Aborted } else { self.context.decode(&mut self.batch) };
        self.aboard.exit();
        decoded
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

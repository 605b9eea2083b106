//! The loop of the thread that owns the context: let in, decode everybody's rows in one batch, choose tokens, again.

use super::job::Job;
use super::pace::Pace;
use super::plan;
use super::pool::Pool;
use super::slot::Slot;
use crate::llama::{Batch, Context, Decoded, Model, Row, Shape};
use llm_core::{Error, Kind};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

pub(crate) struct Worker {
    model: Arc<Model>,
    context: Context,
    inbox: Receiver<Job>,
    waiting: VecDeque<Job>,
    slots: Vec<Slot>,
    pool: Pool,
    pace: Pace,
    batch: Batch,
    given: u64,
    running: Arc<AtomicUsize>,
}

/// A slot's part of a batch.
struct Share {
    slot: usize,
    rows: usize,
    /// The row whose logits choose the next token, if the slot has nothing left to decode after it.
    last: Option<usize>,
}

impl Worker {
    pub(crate) fn new(model: Arc<Model>, context: Context, shape: &Shape, inbox: Receiver<Job>) -> Worker {
        Worker {
            model,
            context,
            inbox,
            waiting: VecDeque::new(),
            slots: (0..shape.sequences).map(|_| Slot::empty()).collect(),
            pool: Pool { cells: shape.cells as usize },
            pace: Pace::new(shape.batch as usize),
            batch: Batch::default(),
            given: 0,
            running: Arc::default(),
        }
    }

    /// How many answers are being made, for those who watch.
    pub(crate) fn running(&self) -> Arc<AtomicUsize> {
        self.running.clone()
    }

    /// Works until nobody can ask any more and all answers are given.
    pub(crate) fn run(mut self) {
        while self.receive() {
            self.let_go();
            self.let_in();
            self.step();
        }
    }

    /// Takes in what has been asked; sleeps when there is nothing else to do. False at the end.
    fn receive(&mut self) -> bool {
        loop {
            let idle = self.waiting.is_empty() && self.slots.iter().all(Slot::is_free);
            match if idle { self.inbox.recv().map_err(|_| TryRecvError::Disconnected) } else { self.inbox.try_recv() } {
                Ok(job) => self.waiting.push_back(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !idle,
            }
        }
    }

    /// Frees the slots, and the places in line, of clients that have left.
    fn let_go(&mut self) {
        self.waiting.retain(|job| !job.leave.is_gone());
        for slot in self.slots.iter_mut().filter(|slot| slot.is_deserted()) {
            slot.let_go();
        }
        self.count();
    }

    fn count(&self) {
        self.running.store(self.slots.iter().filter(|slot| !slot.is_free()).count(), Relaxed);
    }

    /// Gives free slots to those who wait, first come first served; those whose memory was taken away come before.
    fn let_in(&mut self) {
        while let Some(held) = self.pool.next_held(&self.slots) {
            if !self.pool.admits(&self.slots, self.slots[held].tokens.len()) {
                return;
            }
            self.slots[held].held = false;
        }
        while let Some(job) = self.waiting.front()
            && let Some(slot) = self.best_slot(job)
            && self.pool.admits(&self.slots, job.ask.prompt.len())
        {
            self.begin(slot);
        }
        self.count();
    }

    /// The free slot that remembers most of the prompt, and among equals the one unused for longest.
    fn best_slot(&self, job: &Job) -> Option<usize> {
        let free = (0..self.slots.len()).filter(|slot| self.slots[*slot].is_free());
        free.max_by_key(|slot| {
            let slot = &self.slots[*slot];
            (slot.common(&job.ask.prompt), std::cmp::Reverse(slot.given))
        })
    }

    fn begin(&mut self, slot: usize) {
        let Some(mut job) = self.waiting.pop_front() else { return };
        let common = self.slots[slot].common(&job.ask.prompt);
        let cached = self.context.forget(slot as i32, common);
        job.ask.sampler.read(&job.ask.prompt);
        self.given += 1;
        self.slots[slot].begin(job, cached, self.given);
    }

    fn step(&mut self) {
        let shares = self.share();
        if shares.is_empty() {
            return;
        }
        let began = Instant::now();
        match self.decode(&shares) {
            Decoded::Done => self.take(&shares, began),
            Decoded::Full => self.give_way(),
            Decoded::Aborted => self.take_back(&shares),
            Decoded::Failed(code) => self.fail(&shares, code),
        }
    }

    /// Fills the batch; first makes room in the pool for what goes into it.
    fn share(&mut self) -> Vec<Share> {
        loop {
            let pending: Vec<usize> = self.slots.iter().map(Slot::pending).collect();
            let answers = pending.iter().filter(|tokens| **tokens == 1).count();
            let rows = plan::shares(&pending, self.pace.batch(), self.pace.rows(answers));
            if self.pool.fits(&self.slots, rows.iter().sum()) || !self.make_room() {
                return self.fill(&rows);
            }
        }
    }

    fn fill(&mut self, rows: &[usize]) -> Vec<Share> {
        self.batch.clear();
        let busy = (0..self.slots.len()).filter(|slot| rows[*slot] > 0);
        busy.map(|slot| add(&mut self.batch, &self.slots[slot], slot, rows[slot])).collect()
    }

    /// Forgets what nobody uses, or else makes the youngest answer wait. False when neither is there.
    fn make_room(&mut self) -> bool {
        if let Some(stale) = self.pool.stalest(&self.slots) {
            self.empty(stale);
            return true;
        }
        let Some(youngest) = self.pool.youngest(&self.slots) else { return false };
        self.empty(youngest);
        self.slots[youngest].held = true;
        true
    }

    fn empty(&mut self, slot: usize) {
        self.context.forget(slot as i32, 0);
        self.slots[slot].cached = 0;
    }

    fn decode(&mut self, shares: &[Share]) -> Decoded {
        self.context.abort().clear();
        self.each(shares, |slot| slot.enter());
        if shares.iter().any(|share| self.slots[share.slot].is_deserted()) {
            self.each(shares, |slot| slot.exit());
            return Decoded::Aborted;
        }
        let decoded = self.context.decode(&mut self.batch);
        self.each(shares, |slot| slot.exit());
        decoded
    }

    fn each(&self, shares: &[Share], tell: impl Fn(&super::Leave)) {
        for making in shares.iter().filter_map(|share| self.slots[share.slot].answer.as_ref()) {
            tell(&making.job.leave);
        }
    }

    fn take(&mut self, shares: &[Share], began: Instant) {
        self.pace.note(self.batch.len(), began.elapsed());
        for share in shares {
            let slot = &mut self.slots[share.slot];
            slot.cached += share.rows;
            let Some(row) = share.last else { continue };
            match self.context.logits(row) {
                Some(logits) => slot.go_on(&self.model, logits),
                None => {
                    end(slot, Error::new(Kind::Internal, "llama.cpp gave no logits for a token that asked for them"))
                }
            }
        }
        self.count();
    }

    /// Undoes a batch that was cut short, so that the next one decodes the rows of those who stay again.
    fn take_back(&mut self, shares: &[Share]) {
        for share in shares {
            let slot = &mut self.slots[share.slot];
            slot.cached = self.context.forget(share.slot as i32, slot.cached);
        }
    }

    /// The pool is full although the count of cells says otherwise (models whose layers remember differently).
    fn give_way(&mut self) {
        if self.make_room() {
            return;
        }
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_free()) {
            end(slot, Error::new(Kind::Overloaded, "the model's memory is full; ask for less context or fewer slots"));
        }
    }

    /// A batch that cannot be computed fails those who are in it; the others are computed again from the start.
    fn fail(&mut self, shares: &[Share], code: i32) {
        for share in shares {
            let error = Error::new(Kind::Internal, format!("llama.cpp could not compute this batch (code {code})"));
            end(&mut self.slots[share.slot], error);
        }
        self.context.clear();
        self.slots.iter_mut().for_each(|slot| slot.cached = 0);
        self.count();
    }
}

fn add(batch: &mut Batch, slot: &Slot, sequence: usize, rows: usize) -> Share {
    let until = slot.cached + rows;
    let mut last = None;
    for (position, token) in slot.tokens[..until].iter().enumerate().skip(slot.cached) {
        let wanted = position + 1 == slot.tokens.len();
        let row = batch.add(Row { token: *token, position: position as i32, sequence: sequence as i32, wanted });
        last = wanted.then_some(row);
    }
    Share { slot: sequence, rows, last }
}

fn end(slot: &mut Slot, error: Error) {
    if let Some(making) = slot.let_go() {
        making.job.fail(error);
    }
}

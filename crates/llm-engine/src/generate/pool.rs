//! The cells of the KV memory, which all slots share: who must give way when they run out.
//!
//! Reserving each answer's longest length would let few in; so answers are let in while there is room now, and when room runs
//! out the youngest gives its cells away and is computed again later, as vLLM does.

use super::slot::Slot;

/// Room kept free for each running answer when a newcomer is let in, so that it is not thrown out a moment later.
const HEADROOM: usize = 32;

pub(super) struct Pool {
    pub(super) cells: usize,
}

impl Pool {
    pub(super) fn fits(&self, slots: &[Slot], rows: usize) -> bool {
        used(slots) + rows <= self.cells
    }

    /// Whether an answer with so many tokens may begin beside those that run. Memory of free slots is as good as free.
    pub(super) fn admits(&self, slots: &[Slot], tokens: usize) -> bool {
        let running: Vec<&Slot> = slots.iter().filter(|slot| !slot.is_free() && !slot.held).collect();
        let taken: usize = running.iter().map(|slot| slot.tokens.len() + HEADROOM).sum();
        running.is_empty() || taken + tokens + HEADROOM <= self.cells
    }

    /// The free slot whose memory has lain unused for longest.
    pub(super) fn stalest(&self, slots: &[Slot]) -> Option<usize> {
        let stale = |slot: &&usize| slots[**slot].is_free() && slots[**slot].cached > 0;
        let all: Vec<usize> = (0..slots.len()).collect();
        all.iter().filter(stale).min_by_key(|slot| slots[**slot].given).copied()
    }

    /// The youngest running answer, unless it is the only one.
    pub(super) fn youngest(&self, slots: &[Slot]) -> Option<usize> {
        let running: Vec<usize> = (0..slots.len()).filter(|slot| slots[*slot].pending() > 0).collect();
        if running.len() < 2 {
            return None;
        }
        running.into_iter().max_by_key(|slot| slots[*slot].given)
    }

    /// The held answer that has waited longest.
    pub(super) fn next_held(&self, slots: &[Slot]) -> Option<usize> {
        (0..slots.len()).filter(|slot| slots[*slot].held).min_by_key(|slot| slots[*slot].given)
    }
}

fn used(slots: &[Slot]) -> usize {
    slots.iter().map(|slot| slot.cached).sum()
}

//! The rows of one decode: a token, its position, its sequence, and whether its logits are wanted.

use llama_cpp_sys_2 as sys;

/// Parallel columns, as `llama_batch` wants them. Every row belongs to exactly one sequence.
#[derive(Default)]
pub(crate) struct Batch {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    sequences: Vec<i32>,
    wanted: Vec<i8>,
    // What C is handed beside the columns: a count and a pointer per row, filled in by `raw`.
    counts: Vec<i32>,
    pointers: Vec<*mut i32>,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) token: i32,
    pub(crate) position: i32,
    pub(crate) sequence: i32,
    pub(crate) wanted: bool,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.wanted.clear();
    }

    /// Adds a row and tells its index.
    pub(crate) fn add(&mut self, row: Row) -> usize {
        self.tokens.push(row.token);
        self.positions.push(row.position);
        self.sequences.push(row.sequence);
        self.wanted.push(row.wanted.into());
        self.tokens.len() - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(crate) fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    pub(crate) fn wants(&self, row: usize) -> bool {
        self.wanted.get(row).is_some_and(|wanted| *wanted != 0)
    }

    /// The C view; it lends this batch's columns and is good until the batch is changed or dropped.
    pub(crate) fn raw(&mut self) -> sys::llama_batch {
        self.counts.clear();
        self.counts.resize(self.len(), 1);
        self.pointers.clear();
        self.pointers.extend(self.sequences.iter_mut().map(|id| id as *mut i32));
        sys::llama_batch {
            n_tokens: self.len() as i32,
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.counts.as_mut_ptr(),
            seq_id: self.pointers.as_mut_ptr(),
            logits: self.wanted.as_mut_ptr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_hands_its_rows_to_c_as_they_were_added() {
        let mut batch = Batch::default();
        batch.add(Row { token: 7, position: 0, sequence: 3, wanted: false });
        let last = batch.add(Row { token: 9, position: 1, sequence: 4, wanted: true });
        let raw = batch.raw();
        assert_eq!((raw.n_tokens, last), (2, 1));
        assert!(batch.wants(1) && !batch.wants(0) && !batch.wants(2));
        assert_eq!(batch.sequences, [3, 4]);
    }
}

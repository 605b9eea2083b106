//! The log of calls: a JSON line each, gathered per thread and written in batches.
//!
//! A writer thread that is woken for every line costs more than the forwarding itself; a buffer that is handed over when
//! it is full, or after a moment, costs a tenth.
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use llm_core::{Error, Result};

const FULL: usize = 32 << 10;

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where lines go.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Sink>>);

enum Sink {
    Off,
    Stderr,
    File(File),
}

impl Log {
    /// `off`, `stderr` or the path of a file, which is appended to.
    ///
    /// # Errors
    /// `Config` if the file cannot be opened.
    pub fn to(place: &str) -> Result<Log> {
        let sink = match place {
            "off" => Sink::Off,
            "stderr" => Sink::Stderr,
            path => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Sink::File(file.map_err(|e| Error::config(format!("cannot write {path}: {e}")).at("log"))?)
            }
        };
        Ok(Log(Arc::new(Mutex::new(sink))))
    }

    /// Adds a line, which `write` writes without its line end.
    pub(crate) fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        LINES.with_borrow_mut(|lines| {
            write(lines);
            lines.push(b'\n');
            if lines.len() >= FULL {
                self.hand_over(lines);
            }
        });
    }

    /// Writes what this thread has gathered.
    pub(crate) fn flush(&self) {
        LINES.with_borrow_mut(|lines| self.hand_over(lines));
    }

    fn hand_over(&self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk loses lines, never requests.
        let _ = match &mut *sink {
            Sink::Off => Ok(()),
            Sink::Stderr => std::io::stderr().write_all(lines),
            Sink::File(file) => file.write_all(lines),
        };
        lines.clear();
    }
}

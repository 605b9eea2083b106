//! stdout: the answer alone, each piece as soon as it is there.
use std::io::{self, IsTerminal};

use tokio::io::{AsyncWriteExt, Stdout};

use crate::talk::harmless;

/// The standard output. Written off the runtime's thread, so that Ctrl-C works while a slow reader holds us up.
pub(crate) struct Output {
    stdout: Stdout,
    is_terminal: bool,
    ends_line: bool,
}

impl Output {
    pub(crate) fn new() -> Output {
        let is_terminal = io::stdout().is_terminal();
        Output { stdout: tokio::io::stdout(), is_terminal, ends_line: true }
    }

    /// Writes words at once: a pipe gets them as they are, a terminal without what would steer it.
    pub(crate) async fn write(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.ends_line = text.ends_with('\n');
        let shown = if self.is_terminal { harmless(text) } else { text.into() };
        self.stdout.write_all(shown.as_bytes()).await?;
        self.stdout.flush().await
    }

    /// Writes a line.
    pub(crate) async fn line(&mut self, text: &str) -> io::Result<()> {
        self.write(&format!("{text}\n")).await
    }

    /// Ends the last line, if that is open.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        if self.ends_line { Ok(()) } else { self.write("\n").await }
    }
}

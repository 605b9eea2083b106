//! stdin: what is piped in, as text and within bounds.
use std::io::{self, IsTerminal};

use tokio::io::AsyncReadExt;

use crate::exit::Exit;
use crate::stop::{Run, Stop};
use crate::talk;

/// Far beyond any context window, in bytes; a pipe that never ends must not fill the memory.
const MOST: u64 = 32 << 20;

/// What is piped in; `None` at a terminal, and where there is nothing but white space.
pub(crate) async fn piped() -> Run<Option<String>> {
    if io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    tokio::io::stdin().take(MOST + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > MOST {
        return Err(Stop::new(Exit::Usage, format!("more than {} MiB were piped in", MOST >> 20)));
    }
    Ok(Some(as_text(bytes)).filter(|text| !text.trim().is_empty()))
}

/// A diff may hold anything; models read text.
fn as_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        talk::warn("what was piped in is not all UTF-8; the rest was replaced");
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    })
}

/// The words of the command line, or else what is piped in.
pub(crate) async fn words_or_piped(words: &[String]) -> Run<String> {
    if !words.is_empty() {
        return Ok(words.join(" "));
    }
    piped().await?.ok_or_else(|| Stop::new(Exit::Usage, "there is no text: give it as an argument or pipe it in"))
}

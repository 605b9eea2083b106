//! Talk: everything that is not the answer. It goes to stderr, in colour only where someone is looking.
use std::borrow::Cow;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

use crate::stop::Stop;

const BAD: Style = AnsiColor::Red.on_default().bold();
const SOSO: Style = AnsiColor::Yellow.on_default().bold();
const QUIET: Style = Style::new().dimmed();

/// Says why the program ends.
pub(crate) fn stop(stop: &Stop) {
    if !stop.says.is_empty() {
        say("error:", BAD, &stop.says);
    }
    stop.hints.iter().for_each(|hint| say("  hint:", QUIET, hint));
}

/// Says what may surprise.
pub(crate) fn warn(what: &str) {
    say("warning:", SOSO, what);
}

/// Says what may interest.
pub(crate) fn note(what: &str) {
    let what = harmless(what);
    anstream::eprintln!("{QUIET}{what}{QUIET:#}");
}

/// What a model thinks, as it thinks it.
pub(crate) fn think(piece: &str) {
    let piece = harmless(piece);
    anstream::eprint!("{QUIET}{piece}{QUIET:#}");
}

fn say(head: &str, style: Style, what: &str) {
    let what = harmless(what);
    anstream::eprintln!("{style}{head}{style:#} {what}");
}

/// Whether somebody watches stderr.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// A model's or a server's words without what would steer a terminal: escape sequences can retitle it, write to its
/// clipboard, or hide what stands there.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    text.replace("\r\n", "\n").replace(steers, "\u{fffd}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\n\tb"), "a\n\tb");
        assert_eq!(harmless("\u{1b}]0;x\u{7}a\r\nb\u{9b}"), "\u{fffd}]0;x\u{fffd}a\nb\u{fffd}");
    }
}

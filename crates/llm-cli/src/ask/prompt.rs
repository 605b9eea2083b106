//! The question: the words of the command line, then what is piped in.
use crate::exit::Exit;
use crate::input;
use crate::stop::{Run, Stop};

/// Words first, then the piped text between tags: models find the task before the material, and tell the two apart.
pub(super) async fn prompt(words: &[String]) -> Run<String> {
    join(words.join(" "), input::piped().await?).ok_or_else(|| {
        Stop::new(Exit::Usage, "there is no question").with_hint("llm \"why is the sky blue?\"; llm --help says more")
    })
}

fn join(words: String, piped: Option<String>) -> Option<String> {
    match (words.trim().is_empty(), piped) {
        (true, piped) => piped,
        (false, None) => Some(words),
        (false, Some(piped)) => Some(format!("{words}\n\n<stdin>\n{}\n</stdin>", piped.trim_end_matches('\n'))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_first_and_the_piped_text_between_tags() {
        let join = |words: &str, piped: Option<&str>| join(words.into(), piped.map(Into::into));
        assert_eq!(join("why?", None).as_deref(), Some("why?"));
        assert_eq!(join("", Some("all\n")).as_deref(), Some("all\n"));
        assert_eq!(join("sum up", Some("a\nb\n")).as_deref(), Some("sum up\n\n<stdin>\na\nb\n</stdin>"));
        assert_eq!(join(" ", None), None);
    }
}

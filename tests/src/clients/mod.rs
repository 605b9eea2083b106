//! Other people's clients against our server: the same stories for each, told a line a story.

mod house;
mod program;
mod rust;

pub use house::{ClientHouse, KEY};
pub use program::{Program, told};
pub use rust::async_openai;

/// What every client must have told: `tests/clients/python/stories.py` says what each is about.
pub const STORIES: &[&str] = &[
    "chat_whole",
    "chat_streamed_with_usage",
    "stream_without_usage",
    "stream_left_early",
    "tools_in_fragments",
    "structured_output",
    "embeddings",
    "models",
    "completion",
    "wrong_key",
    "unknown_model",
    "bad_temperature",
    "loading_model",
    "full_line",
    "error_in_stream",
    "cut_stream",
];

/// What ollama-python must have told: `tests/clients/python/ollama_stories.py` says what each is about.
pub const OLLAMA_STORIES: &[&str] = &[
    "chat_whole",
    "chat_streamed",
    "tools",
    "tool_results",
    "structured_output",
    "generate",
    "embeddings",
    "models",
    "wrong_key",
    "unknown_model",
    "bad_temperature",
    "loading_model",
    "error_in_stream",
    "cut_stream",
];

/// What is wrong with what a client of OpenAI's told: stories that failed, are missing or are told twice.
pub fn complaints(lines: &[String]) -> Vec<String> {
    complaints_of(STORIES, lines)
}

/// The same of a client with other stories.
pub fn complaints_of(stories: &[&str], lines: &[String]) -> Vec<String> {
    let is_ok = |story: &&&str| lines.iter().filter(|line| **line == format!("ok {story}")).count() == 1;
    let untold = stories.iter().filter(|story| !is_ok(story)).map(|story| format!("not told well once: {story}"));
    let known = |line: &&String| stories.iter().any(|story| **line == format!("ok {story}"));
    lines.iter().filter(|line| !known(line)).cloned().chain(untold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_that_fails_is_missing_or_is_told_twice_is_a_complaint() {
        let told = |stories: &[&str]| stories.iter().map(|story| format!("ok {story}")).collect::<Vec<_>>();
        assert!(complaints(&told(STORIES)).is_empty());
        assert_eq!(complaints(&told(&STORIES[1..])), ["not told well once: chat_whole"]);
        assert_eq!(complaints(&[told(STORIES), told(&STORIES[..1])].concat()), ["not told well once: chat_whole"]);
        let failed = [told(&STORIES[1..]), vec!["FAILED chat_whole: no".to_owned()]].concat();
        assert_eq!(complaints(&failed), ["FAILED chat_whole: no", "not told well once: chat_whole"]);
    }
}

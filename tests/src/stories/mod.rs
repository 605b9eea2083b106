//! One list of stories about the SDK, told at every door: a real vLLM, the engine, and our server in front of each.
//!
//! A story asks with the typed verbs of `Llm` and knows no door, so that what programs see is the same wherever a model
//! runs. What the models behind a door cannot do is no gap in its list: there the story has to end in `Unsupported`.

mod abilities;
mod chat;
mod crowd;
mod door;
mod embed;
mod refusals;
mod sampling;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_core::{BoxFuture, Kind, Operation, Result};

pub use door::{Door, Running, ready};

/// What every door calls its chat model.
const CHAT: &str = "chat";
/// What every door calls its embedding model.
const EMBED: &str = "embed";
/// No story takes longer, whatever else the machine does.
const LONGEST: Duration = Duration::from_secs(120);

type Tell = fn(Arc<Door>) -> BoxFuture<'static, Result<()>>;

/// Something that a program does with an `Llm`, and what must come of it.
pub struct Story {
    name: &'static str,
    asks: Operation,
    tell: Tell,
}

macro_rules! stories {
    ($($theme:ident($operation:ident): $($name:ident),+;)+) => {
        &[$($(Story {
            name: stringify!($name),
            asks: Operation::$operation,
            tell: |door| Box::pin($theme::$name(door)),
        }),+),+]
    };
}

/// Every story, and what it asks for: who does not serve that must say so.
pub const STORIES: &[Story] = stories![
    chat(Chat):
        a_question_is_answered_at_its_cost,
        instructions_are_read,
        a_conversation_goes_on,
        fragments_join_to_the_whole_answer;
    chat(Complete): a_text_is_gone_on_with;
    sampling(Chat):
        max_tokens_cut_the_answer,
        the_answer_ends_before_a_stop_string,
        a_seed_repeats_its_answer,
        greedy_answers_repeat_themselves,
        the_wildest_text_streams_as_it_is_said_whole,
        log_probabilities_are_told_for_every_token,
        of_several_answers_the_first_is_told;
    abilities(Chat): a_rust_type_is_answered, a_tool_is_called_whole_and_in_fragments, tools_are_called_until_there_is_an_answer;
    abilities(Rerank): the_best_document_comes_first;
    abilities(Models): models_are_listed_and_well;
    embed(Embed):
        a_text_has_a_vector_of_length_one,
        related_texts_are_near,
        many_texts_keep_their_order,
        vectors_in_base64_are_the_same;
    tokens(Tokenize): what_is_counted_is_what_it_costs, a_conversation_is_cut_to_what_it_really_takes;
    tokens(Detokenize): tokens_become_the_text_they_came_from;
    refusals(Chat):
        a_question_that_is_wrong_is_invalid,
        an_unknown_model_is_not_found,
        a_prompt_that_does_not_fit_is_told_as_such;
    refusals(Embed): nothing_to_embed_is_invalid, a_text_that_does_not_fit_is_told_as_such;
    refusals(Models): what_a_model_cannot_is_unsupported;
    crowd(Chat):
        eight_at_once_are_answered_each_its_own,
        who_leaves_frees_the_model,
        five_users_get_fair_shares;
];

/// Tells every story at this door, one after the other, since some count what runs.
///
/// # Panics
/// With what went wrong, all of it at once.
pub async fn tell(door: Door) {
    let lost = door.lacks.iter().filter(|name| !STORIES.iter().any(|story| story.name == **name));
    let mut complaints: Vec<String> = lost.map(|name| format!("no such story: {name}")).collect();
    let door = Arc::new(door);
    for story in STORIES {
        let since = Instant::now();
        complaints.extend(complaint(story, &door).await.map(|why| format!("{}: {why}", story.name)));
        println!("{:>7.0} ms  {}: {}", since.elapsed().as_secs_f64() * 1e3, door.name, story.name);
    }
    assert!(complaints.is_empty(), "{}:\n  {}\n", door.name, complaints.join("\n  "));
}

async fn complaint(story: &Story, door: &Arc<Door>) -> Option<String> {
    let telling = tokio::spawn((story.tell)(door.clone()));
    let told = match tokio::time::timeout(LONGEST, telling).await {
        Ok(Ok(told)) => told,
        Ok(Err(panicked)) => return Some(panicked.to_string()),
        Err(_) => return Some(format!("not told within {LONGEST:?}")),
    };
    match (told, door.can(story)) {
        (Ok(()), true) => None,
        (Ok(()), false) => Some("it can, and says that it cannot".to_owned()),
        (Err(error), false) if error.kind() == Kind::Unsupported => None,
        (Err(error), _) => Some(format!("{error:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm_core::provider::fake::Fake;
    use llm_core::{ChatRequest, Error, Llm};

    async fn told(tell: Tell, lacks: &'static [&'static str]) -> Option<String> {
        let door = Door::new("the fake", Llm::of(Fake::says("hi")).unwrap(), lacks, || 0);
        complaint(&Story { name: "it", asks: Operation::Chat, tell }, &Arc::new(door)).await
    }

    #[tokio::test]
    async fn a_story_ends_well_or_in_unsupported_and_each_where_it_is_due() {
        let well: Tell = |door| Box::pin(async move { door.llm.chat(ChatRequest::new("?")).await.map(drop) });
        let unsupported: Tell = |_| Box::pin(async { Err(Error::new(Kind::Unsupported, "no")) });
        let panics: Tell = |door| {
            Box::pin(async move {
                assert_eq!(door.name, "another");
                Ok(())
            })
        };
        assert_eq!(told(well, &[]).await, None);
        assert_eq!(told(unsupported, &["it"]).await, None);
        assert_eq!(told(unsupported, &[]).await.unwrap(), "unsupported: no");
        assert_eq!(told(well, &["it"]).await.unwrap(), "it can, and says that it cannot");
        assert!(told(panics, &["it"]).await.unwrap().contains("another"));
    }

    #[test]
    fn no_two_stories_have_one_name() {
        for (place, story) in STORIES.iter().enumerate() {
            assert_eq!(STORIES.iter().position(|other| other.name == story.name), Some(place), "{}", story.name);
        }
    }
}

//! What not every model can: schemas, tools, ranks; and what the house tells of its models.

use std::sync::Arc;

use llm_core::{ChatRequest, Event, FinishReason, RerankRequest, Result, Tool};
use serde_json::{Value, json};

use super::chat::capital;
use super::{CHAT, Door, EMBED};

#[derive(Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
enum Colour {
    #[serde(rename = "grün 🙂")]
    Green,
    #[serde(rename = "weiß 🙂")]
    White,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Thing {
    colour: Colour,
    is_big: bool,
}

pub(super) async fn a_rust_type_is_answered(door: Arc<Door>) -> Result<()> {
    let question = || capital().max_tokens(80);
    let thing: Thing = door.llm.extract(question()).await?;
    assert!(matches!(thing.colour, Colour::Green | Colour::White), "{thing:?} {}", thing.is_big);
    // It is the schema that makes it so: without one the same question is answered in words.
    assert!(door.llm.chat(question()).await?.json::<Thing>().is_err());
    Ok(())
}

fn weather() -> Tool {
    let city =
        json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]});
    Tool::new("get_weather", "Weather in a city", city, async |_: Value| Ok("sunny".to_owned()))
}

pub(super) async fn a_tool_is_called_whole_and_in_fragments(door: Arc<Door>) -> Result<()> {
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    // Who names the function is told that it has stopped, as OpenAI has it: there was nothing to decide.
    for (choice, finish) in [(json!("required"), FinishReason::ToolCalls), (named, FinishReason::Stop)] {
        let ask = ChatRequest::new("What is the weather in Paris?").tool(&weather()).extra("tool_choice", choice);
        let ask = ask.temperature(0.0).max_tokens(200);
        let whole = door.llm.chat(ask.clone()).await?;
        assert_eq!((whole.tool_calls.len(), &whole.finish_reason), (1, &Some(finish)), "{whole:?}");
        let call = &whole.tool_calls[0];
        assert_eq!((call.function.name.as_str(), call.kind.as_str()), ("get_weather", "function"));
        // The parser does not hold the model to the schema, and one so small invents names.
        assert!(!call.id.is_empty() && call.arguments::<Value>()?.is_object(), "{call:?}");
        assert!(call.function.arguments.contains("Paris"), "{call:?}");
        let mut stream = door.llm.stream(ask).await?;
        let mut fragments = 0;
        while let Some(event) = stream.next().await? {
            fragments += usize::from(matches!(event, Event::ToolCall(_)));
        }
        let pieces = &stream.so_far().tool_calls;
        assert!(fragments > 1 && pieces.len() == 1, "{fragments} {pieces:?}");
        assert_eq!(pieces[0].function.name, call.function.name);
        assert_eq!(pieces[0].arguments::<Value>()?, call.arguments::<Value>()?);
    }
    Ok(())
}

pub(super) async fn tools_are_called_until_there_is_an_answer(door: Arc<Door>) -> Result<()> {
    let ask = ChatRequest::new("What is the weather in Paris?").temperature(0.0).max_tokens(100);
    let run = door.llm.chat_with(ask, &[weather()], 4).await?;
    assert!(run.reply.tool_calls.is_empty() && !run.reply.text.is_empty(), "{run:?}");
    // The question, the call, the tool's word, the answer.
    assert!(run.messages.len() >= 4 && run.messages[2].content.text() == "sunny", "{run:?}");
    assert!(run.usage.prompt_tokens > run.reply.usage.expect("it tells what it costs").prompt_tokens);
    Ok(())
}

pub(super) async fn the_best_document_comes_first(door: Arc<Door>) -> Result<()> {
    let documents = ["Bananas are yellow.", "The capital of France is Paris.", "A quick brown fox jumps."];
    let ranking = door.llm.rank(RerankRequest::new("What is the capital of France?", documents).model(EMBED)).await?;
    assert_eq!((ranking.results.len(), ranking.results[0].index), (3, 1), "{ranking:?}");
    Ok(())
}

pub(super) async fn models_are_listed_and_well(door: Arc<Door>) -> Result<()> {
    let health = door.llm.health().await;
    assert!(health.len() >= 2 && health.iter().all(|(_, health)| health.is_ok()), "{health:?}");
    let models = door.llm.models();
    let model = |name: &str| models.iter().find(|model| model.id == name).expect(name);
    assert_eq!((models[0].id.as_str(), model(CHAT).status, model(EMBED).status), (CHAT, "ready", "ready"));
    assert_eq!(model(CHAT).max_model_len, Some(4096));
    assert!(model(CHAT).operations.contains(&"chat") && model(EMBED).operations.contains(&"embed"));
    Ok(())
}

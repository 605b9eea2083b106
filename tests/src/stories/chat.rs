//! Questions and their answers: whole, in fragments, with instructions, in conversations; and texts gone on with.

use std::sync::Arc;

use llm_core::{
    ChatReply, ChatRequest, CompleteRequest, Content, Event, FinishReason, FunctionCall, Message, Result, ToolCall,
};

use super::Door;

/// What the tiny model says of the capital of France, at temperature 0.
pub(super) const PARIS: &str = "The capital of France is Paris.";

pub(super) fn capital() -> ChatRequest {
    ChatRequest::new("What is the capital of France?").temperature(0.0)
}

pub(super) async fn a_question_is_answered_at_its_cost(door: Arc<Door>) -> Result<()> {
    let reply = door.llm.chat(capital()).await?;
    assert_eq!((reply.text.as_str(), &reply.finish_reason), (PARIS, &Some(FinishReason::Stop)));
    // The same model costs the same everywhere: its template, the words, and the token that ends the turn.
    let usage = reply.usage.expect("it tells what it costs");
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (18, 8));
    assert!(!reply.timings.first.is_zero() && reply.timings.total >= reply.timings.first, "{:?}", reply.timings);
    assert!(reply.warnings.is_empty() && reply.tool_calls.is_empty(), "{reply:?}");
    Ok(())
}

pub(super) async fn instructions_are_read(door: Arc<Door>) -> Result<()> {
    let told = door.llm.chat(capital().system("You are a helpful assistant.")).await?;
    let plain = door.llm.chat(capital()).await?;
    assert_eq!(told.text, PARIS);
    let cost = |reply: &ChatReply| reply.usage.expect("it tells what it costs").prompt_tokens;
    assert!(cost(&told) > cost(&plain) + 4, "{} {}", cost(&told), cost(&plain));
    Ok(())
}

pub(super) async fn a_conversation_goes_on(door: Arc<Door>) -> Result<()> {
    let first = door.llm.chat(capital()).await?;
    let conversation = capital().message(first.message()).message(Message::user("Say OK"));
    let second = door.llm.chat(conversation).await?;
    let read = second.usage.expect("it tells what it costs").prompt_tokens;
    let made = first.usage.expect("it tells what it costs");
    assert!(read > made.prompt_tokens + made.completion_tokens, "{read} {made:?}");
    assert!(!second.text.is_empty());
    // One who called a tool said nothing, and a conversation that was had elsewhere goes on here, too.
    let function =
        FunctionCall { name: "get_weather".into(), arguments: "{\"city\": \"Paris\"}".into(), ..Default::default() };
    let call = ToolCall { id: "c1".into(), kind: "function".into(), function, ..Default::default() };
    let called = Message { tool_calls: vec![call], content: Content::default(), ..Message::assistant("") };
    let asked = ChatRequest::new("What is the weather in Paris?").message(called).message(Message::tool("c1", "sunny"));
    assert!(!door.llm.chat(asked.temperature(0.0).max_tokens(20)).await?.text.is_empty());
    Ok(())
}

pub(super) async fn fragments_join_to_the_whole_answer(door: Arc<Door>) -> Result<()> {
    let whole = door.llm.chat(capital()).await?;
    let mut stream = door.llm.stream(capital()).await?;
    let mut events = Vec::new();
    while let Some(event) = stream.next().await? {
        events.push(event);
    }
    let words: Vec<&str> =
        events.iter().filter_map(|e| if let Event::Text(text) = e { Some(&**text) } else { None }).collect();
    assert!(words.len() > 3 && words.concat() == whole.text, "{words:?}");
    let finish = events.iter().position(|e| matches!(e, Event::Finish(_))).expect("it ends");
    assert!(!events[finish + 1..].iter().any(|e| matches!(e, Event::Text(_) | Event::Finish(_))), "{events:?}");
    let told = stream.so_far();
    assert_eq!((&told.text, &told.finish_reason), (&whole.text, &whole.finish_reason));
    let cost = |reply: &ChatReply| reply.usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
    assert_eq!(cost(told), cost(&whole));
    Ok(())
}

pub(super) async fn a_text_is_gone_on_with(door: Arc<Door>) -> Result<()> {
    let mut request = CompleteRequest::new("The capital of France is");
    (request.sampling.temperature, request.sampling.max_tokens) = (Some(0.0), Some(3));
    let reply = door.llm.complete(request.clone()).await?;
    assert!(reply.text.contains("Paris"), "{reply:?}");
    assert_eq!(
        (reply.finish_reason, reply.usage.map(|usage| usage.completion_tokens)),
        (Some(FinishReason::Length), Some(3))
    );
    request.extra.insert("logprobs".into(), 1.into());
    assert_eq!(door.llm.complete(request).await?.logprobs.len(), 3);
    Ok(())
}

//! Tokens: counted as they are charged, cut to what fits, and turned back into the text they came from.

use std::sync::Arc;

use llm_core::{ChatRequest, Kind, Message, Prompt, Result, TokenizeRequest};

use super::Door;
use super::chat::capital;

pub(super) async fn what_is_counted_is_what_it_costs(door: Arc<Door>) -> Result<()> {
    for messages in [
        vec![Message::user("What is the capital of France?")],
        vec![Message::system("You are a helpful assistant."), Message::user("Say OK")],
        vec![Message::user("Say OK"), Message::assistant("OK."), Message::user("Again!")],
        vec![Message::user("Grüße, 世界 🙂 👩‍👩‍👧!\r\n\ttabs  and   blanks ")],
    ] {
        let counted = door.llm.count_tokens(messages.clone()).await?;
        let reply = door.llm.chat(ChatRequest::from(messages).temperature(0.0).max_tokens(1)).await?;
        assert_eq!(counted.count as u32, reply.usage.expect("it tells what it costs").prompt_tokens);
        assert_eq!(counted.tokens.len(), counted.count);
    }
    Ok(())
}

pub(super) async fn tokens_become_the_text_they_came_from(door: Arc<Door>) -> Result<()> {
    for text in ["The capital", "Grüße, 世界 🙂 👩‍👩‍👧!", "  blanks\n\nand lines\t", "{\"json\": [1, 2.5, null]}"]
    {
        let (model, extra) = Default::default();
        let request = TokenizeRequest { model, prompt: Prompt::from(text), add_special_tokens: false, extra };
        let tokens = door.llm.tokenize(request).await?;
        assert_eq!(tokens.max_model_len, Some(4096));
        assert_eq!(door.llm.detokenize(tokens.tokens).await?, text);
    }
    Ok(())
}

pub(super) async fn a_conversation_is_cut_to_what_it_really_takes(door: Arc<Door>) -> Result<()> {
    let turn = |i| [Message::user(format!("Question {i}: why?")), Message::assistant("Because. ".repeat(40))];
    let talk: Vec<Message> = (0..60).flat_map(turn).chain(capital().messages).collect();
    let request = ChatRequest::from(talk.clone()).temperature(0.0).max_tokens(100);
    assert_eq!(door.llm.chat(request.clone()).await.expect_err("it does not fit").kind(), Kind::ContextLength);
    let cut = door.llm.truncate(request, None).await?;
    let window = door.llm.count_tokens("x").await?.max_model_len.expect("it tells its window") as usize;
    let left = cut.messages.len();
    let prompt = door.llm.chat(cut).await?.usage.expect("it tells what it costs").prompt_tokens as usize;
    assert!(prompt + 100 <= window, "{prompt} and 100 in {window}");
    let more = door.llm.count_tokens(talk[talk.len() - left - 2..].to_vec()).await?.count;
    assert!(more + 100 > window, "one turn more would not fit: {more} in {window}");
    Ok(())
}

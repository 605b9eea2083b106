//! A program's conversation in a host's own words: fields that it calls otherwise, and what was thought before tools were
//! called, which some want back and others refuse. A client's own bytes go as they came.
use serde_json::Value;

use super::Host;
use crate::call::*;
use crate::dialect::Dialect;
use crate::error::Result;

/// The same call as this host wants it.
pub(super) fn in_its_words(
    host: &Host,
    renames: &[(&'static str, &'static str)],
    call: Call,
    speaks: &[&'static dyn Dialect],
) -> Result<Call> {
    let is_chat = matches!(call.operation, Operation::Chat | Operation::Tokenize);
    if !is_chat || call.is_as_it_came(speaks) || speaks[0].name() == "ollama" {
        return Ok(call);
    }
    Ok(match call.request()? {
        Request::Chat(asked) if !renames.is_empty() || asked.messages.iter().any(thinks) => {
            let mut asked = asked.clone();
            for (ours, theirs) in renames {
                asked.extra.extend(taken(&mut asked.sampling, ours).map(|value| ((*theirs).to_owned(), value)));
            }
            asked.messages.iter_mut().for_each(|message| rename_thoughts(host, message));
            call.asking(asked.into())
        }
        Request::Tokenize(asked @ TokenizeRequest { prompt: Prompt::Chat(messages), .. })
            if messages.iter().any(thinks) =>
        {
            let mut messages = messages.clone();
            messages.iter_mut().for_each(|message| rename_thoughts(host, message));
            let asked = TokenizeRequest { prompt: Prompt::Chat(messages), ..asked.clone() };
            call.asking(asked.into())
        }
        _ => call,
    })
}

fn thinks(message: &Message) -> bool {
    THOUGHTS.iter().any(|name| message.extra.contains_key(*name))
}

fn rename_thoughts(host: &Host, message: &mut Message) {
    for name in THOUGHTS {
        let Some(thought) = message.extra.remove(name) else { continue };
        // Of an answer that called no tools, nobody wants them back.
        let theirs = host.thoughts.iter().find(|(ours, _)| *ours == name && !message.tool_calls.is_empty());
        message.extra.extend(theirs.map(|(_, theirs)| ((*theirs).to_owned(), thought)));
    }
}

fn taken(sampling: &mut Sampling, field: &str) -> Option<Value> {
    match field {
        "max_tokens" => sampling.max_tokens.take().map(Value::from),
        "seed" => sampling.seed.take().map(|seed| Value::from(seed as i64)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect;
    use crate::provider::hosts::find;
    use serde_json::json;

    fn sent(host: &str, request: ChatRequest) -> Value {
        let (host, speaks) = (find(host).unwrap(), [dialect::openai()]);
        let call = in_its_words(host, host.renames, Call::new(request, Delivery::Whole), &speaks).unwrap();
        serde_json::from_slice(&call.wire(&speaks).unwrap().bytes).unwrap()
    }

    #[test]
    fn a_field_has_the_name_that_its_host_knows() {
        let asked = || ChatRequest::new("hi").max_tokens(7).seed(3);
        let openai = sent("openai", asked());
        assert_eq!(
            (&openai["max_completion_tokens"], openai.get("max_tokens"), &openai["seed"]),
            (&json!(7), None, &json!(3))
        );
        let mistral = sent("mistral", asked());
        assert_eq!(
            (&mistral["random_seed"], mistral.get("seed"), &mistral["max_tokens"]),
            (&json!(3), None, &json!(7))
        );
        assert_eq!(sent("vllm", asked())["max_tokens"], 7);
    }

    #[test]
    fn what_was_thought_before_a_tool_was_called_goes_back_to_those_who_want_it() {
        let call = ToolCall { id: "c".into(), ..ToolCall::default() };
        let details = json!([{"type": "reasoning.encrypted", "data": "x"}]);
        let extra = serde_json::Map::from_iter([("reasoning_details".to_owned(), details.clone())]);
        let reply = ChatReply { reasoning: "Hm.".into(), tool_calls: vec![call], extra, ..ChatReply::default() };
        let conversation = vec![Message::user("?"), reply.message(), Message::tool("c", "sunny")];
        let said = |host| sent(host, conversation.clone().into())["messages"][1].clone();
        assert_eq!((&said("vllm")["reasoning"], said("vllm").get("reasoning_details")), (&json!("Hm."), None));
        let deepseek = said("deepseek");
        assert_eq!((&deepseek["reasoning_content"], deepseek.get("reasoning")), (&json!("Hm."), None));
        let openrouter = said("openrouter");
        assert_eq!((&openrouter["reasoning"], &openrouter["reasoning_details"]), (&json!("Hm."), &details));
        for strict in ["openai", "groq", "mistral"] {
            let said = said(strict);
            let fields: std::collections::BTreeSet<_> = said.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(fields, ["content", "role", "tool_calls"].into(), "{strict}");
        }
        let done = ChatReply { reasoning: "Hm.".into(), text: "sunny".into(), ..ChatReply::default() };
        assert!(done.message().extra.is_empty());
    }

    #[test]
    fn a_clients_own_bytes_go_as_they_came() {
        let body = r#"{"messages":[{"role":"assistant","content":"a","reasoning":"b"}],"max_tokens":7}"#;
        let call = Call::read(Operation::Chat, dialect::openai(), body.into()).unwrap();
        let sent = in_its_words(find("openai").unwrap(), &[], call, &[dialect::openai()]).unwrap();
        assert_eq!(sent.wire(&[dialect::openai()]).unwrap().bytes, body);
    }
}

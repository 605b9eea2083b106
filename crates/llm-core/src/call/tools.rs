//! Tool calls: what a model wants done, put together from the fragments in which it streams.
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// No model calls more tools at once; a hostile index must not fill the memory.
const MOST_CALLS: usize = 128;

/// A tool that the model wants called.
///
/// ```
/// use llm_core::ToolCall;
/// let call: ToolCall = serde_json::from_str(r#"{"id":"c1","function":{"name":"add","arguments":"{\"a\":1,\"b\":2}"}}"#).unwrap();
/// let numbers: std::collections::BTreeMap<String, i32> = call.arguments().unwrap();
/// assert_eq!(numbers["b"], 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call, so that its result finds it; empty if the server gave none.
    #[serde(default, deserialize_with = "text_or_json")]
    pub id: String,
    /// `function`, unless a server has something new.
    #[serde(rename = "type", default = "function", deserialize_with = "null_is_function")]
    pub kind: String,
    /// What to call, and with what.
    #[serde(default, deserialize_with = "null_is_default")]
    pub function: FunctionCall,
    /// Every other field, as it came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A function's name and its arguments.
///
/// ```
/// // As a model's wish comes, in a conversation that goes on with what the tool said.
/// use llm_core::{FunctionCall, Message, ToolCall};
/// let function = FunctionCall { name: "weather".into(), arguments: r#"{"city":"Paris"}"#.into(), ..FunctionCall::default() };
/// let call = ToolCall { id: "call_1".into(), function, ..ToolCall::default() };
/// let wish = Message { tool_calls: vec![call], ..Message::assistant("") };
/// assert_eq!(Message::tool("call_1", "sunny").extra["tool_call_id"], wish.tool_calls[0].id.as_str());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Which function.
    #[serde(default, deserialize_with = "text_or_json")]
    pub name: String,
    /// A JSON object as text, as the model wrote it: it may be wrong.
    #[serde(default, deserialize_with = "text_or_json")]
    pub arguments: String,
    /// Every other field, as it came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ToolCall {
    /// The arguments understood.
    ///
    /// # Errors
    /// `Upstream` if the model wrote something else, which models do.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        // No arguments at all is an empty object, for functions that take none.
        let text = if self.function.arguments.trim().is_empty() { "{}" } else { &self.function.arguments };
        let wrong = |e| {
            let message = format!("the model called `{}` with arguments that do not fit", self.function.name);
            Error::new(Kind::Upstream, message).because(e)
        };
        serde_json::from_str(text).map_err(wrong)
    }

    fn index(&self) -> Option<u64> {
        self.extra.get("index").and_then(Value::as_u64)
    }
}

fn function() -> String {
    "function".into()
}

fn null_is_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FunctionCall, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn null_is_function<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Some(text_or_json(deserializer)?).filter(|kind| !kind.is_empty()).unwrap_or_else(function))
}

/// Some servers count their calls in numbers, and send the arguments themselves instead of their text. What they mean is
/// plain, and a call that is not read is a call that nobody answers.
fn text_or_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Null => String::new(),
        json => json.to_string(),
    })
}

/// Adds a fragment to the call that its index or its id names: the id and the name are set once, the arguments grow.
/// Some servers repeat the name in every fragment, so it is never appended to.
pub(crate) fn assemble(calls: &mut Vec<ToolCall>, fragment: Value) {
    let Ok(fragment) = serde_json::from_value::<ToolCall>(fragment) else { return };
    match find(calls, &fragment) {
        Some(known) => extend(&mut calls[known], fragment),
        None if calls.len() < MOST_CALLS => calls.push(fragment),
        None => {}
    }
}

fn find(calls: &[ToolCall], fragment: &ToolCall) -> Option<usize> {
    if let Some(index) = fragment.index() {
        // Some servers say 0 of every call: another id with a function of its own is another call, and what comes without
        // either belongs to the newest. An id alone says nothing, as older vLLMs made a new one for every fragment.
        let goes_on = |call: &ToolCall| {
            let is_other = !call.id.is_empty() && !fragment.id.is_empty() && call.id != fragment.id;
            call.index() == Some(index) && (!is_other || fragment.function.name.is_empty())
        };
        return calls.iter().rposition(goes_on);
    }
    if !fragment.id.is_empty() {
        return calls.iter().position(|call| call.id == fragment.id);
    }
    // Neither: it goes on with the last one, unless it names a function anew.
    calls.len().checked_sub(1).filter(|_| fragment.function.name.is_empty())
}

fn extend(call: &mut ToolCall, fragment: ToolCall) {
    if call.id.is_empty() {
        call.id = fragment.id;
    }
    if call.function.name.is_empty() {
        call.function.name = fragment.function.name;
    }
    call.function.arguments += &fragment.function.arguments;
    for (name, value) in fragment.extra {
        call.extra.entry(name).or_insert(value);
    }
}

/// All fragments are there: the index has done its work.
pub(crate) fn settle(calls: &mut [ToolCall]) {
    calls.iter_mut().for_each(|call| drop(call.extra.remove("index")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn assembled(fragments: Vec<Value>) -> Vec<(String, String, String)> {
        let mut calls = Vec::new();
        fragments.into_iter().for_each(|f| assemble(&mut calls, f));
        calls.into_iter().map(|c| (c.id, c.function.name, c.function.arguments)).collect()
    }

    fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.into(), name.into(), arguments.into())
    }

    #[test]
    fn fragments_of_two_calls_find_their_own() {
        let calls = assembled(vec![
            json!({"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}),
            json!({"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{"}}),
            json!({"index":0,"function":{"name":"f","arguments":"{\"x\":1}"}}),
            json!({"index":1,"id":null,"type":null,"function":{"name":null,"arguments":"}"}}),
        ]);
        assert_eq!(calls, [call("a", "f", "{\"x\":1}"), call("b", "g", "{}")]);
    }

    #[test]
    fn whole_calls_without_an_index_stay_apart() {
        let calls = assembled(vec![
            json!({"id":"a","function":{"name":"f","arguments":{"x":1}}}),
            json!({"id":"b","function":{"name":"f","arguments":"{}"}}),
            json!({"function":{"name":"g","arguments":"{"}}),
            json!({"function":{"arguments":"}"}}),
        ]);
        assert_eq!(calls, [call("a", "f", "{\"x\":1}"), call("b", "f", "{}"), call("", "g", "{}")]);
    }

    #[test]
    fn whole_calls_that_all_say_index_0_stay_apart() {
        let calls = assembled(vec![
            json!({"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}),
            json!({"index":0,"id":"b","function":{"name":"f","arguments":"{"}}),
            json!({"index":0,"function":{"arguments":"}"}}),
        ]);
        assert_eq!(calls, [call("a", "f", "{\"x\":1}"), call("b", "f", "{}")]);
    }

    #[test]
    fn a_new_id_for_every_fragment_is_no_new_call() {
        let calls = assembled(vec![
            json!({"index":0,"id":"a","function":{"name":"f","arguments":""}}),
            json!({"index":0,"id":"b","function":{"arguments":"{}"}}),
        ]);
        assert_eq!(calls, [call("a", "f", "{}")]);
    }

    #[test]
    fn a_call_with_a_number_or_a_null_is_a_call() {
        let calls = assembled(vec![
            json!({"index":0,"id":7,"type":null,"function":{"name":"f","arguments":null}}),
            json!({"index":0,"function":null}),
            json!({"index":0,"id":7,"function":{"name":"f","arguments":"{}"}}),
            json!({"index":1,"id":"b","function":null}),
        ]);
        assert_eq!(calls, [call("7", "f", "{}"), call("b", "", "")]);
    }

    #[test]
    fn hostile_indexes_fill_no_memory() {
        let fragments =
            (0..10_000).map(|i| json!({"index": i * 1_000_000_007_u64, "function": {"name": "f"}})).collect();
        assert_eq!(assembled(fragments).len(), MOST_CALLS);
    }
}

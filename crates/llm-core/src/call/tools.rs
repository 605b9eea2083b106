//! Puts the fragments of streamed tool calls together.
use serde_json::Value;

/// No model calls more tools at once; a hostile index must not fill the memory.
const MOST_CALLS: u64 = 128;

/// Adds a fragment to the call that its index names: the id and the name are set once, the arguments grow. Some
/// servers repeat the name in every fragment, so it is never appended to.
pub(crate) fn assemble(calls: &mut Vec<Value>, mut fragment: Value) {
    let index = fragment.get("index").and_then(Value::as_u64);
    let Some(object) = fragment.as_object_mut() else { return };
    object.remove("index");
    let known = index.and_then(|index| usize::try_from(index).ok()).filter(|&index| index < calls.len());
    match known {
        Some(known) => extend(&mut calls[known], &fragment),
        None if index.unwrap_or(0) < MOST_CALLS && (calls.len() as u64) < MOST_CALLS => calls.push(fragment),
        None => {}
    }
}

fn extend(call: &mut Value, fragment: &Value) {
    if call["id"].is_null() && !fragment["id"].is_null() {
        call["id"] = fragment["id"].clone();
    }
    let (mine, more) = (&call["function"]["arguments"], &fragment["function"]["arguments"]);
    if let Some(more) = more.as_str() {
        call["function"]["arguments"] = (mine.as_str().unwrap_or("").to_owned() + more).into();
    }
    if call["function"]["name"].is_null() && !fragment["function"]["name"].is_null() {
        call["function"]["name"] = fragment["function"]["name"].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fragments_of_two_calls_find_their_own() {
        let mut calls = Vec::new();
        for piece in [
            json!({"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}),
            json!({"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{"}}),
            json!({"index":0,"function":{"name":"f","arguments":"{\"x\":1}"}}),
            json!({"index":1,"function":{"arguments":"}"}}),
            json!({"index":1e9 as u64,"function":{"arguments":"hostile"}}),
        ] {
            assemble(&mut calls, piece);
        }
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0]["function"], json!({"name":"f","arguments":"{\"x\":1}"}));
        assert_eq!(calls[1]["function"]["arguments"], "{}");
    }
}

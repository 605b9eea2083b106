//! Errors in OpenAI's shape: ours written, and every shape that servers send understood.
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Kind};

/// `{"error":{"message","type","param","code"}}` with OpenAI's type strings and string codes.
pub(in crate::dialect) fn body(error: &Error) -> Vec<u8> {
    let kind = match error.kind() {
        Kind::Unauthorized => "authentication_error",
        Kind::RateLimited => "rate_limit_error",
        Kind::Invalid | Kind::Unsupported | Kind::NotFound | Kind::ContextLength => "invalid_request_error",
        Kind::Overloaded | Kind::Loading | Kind::Unavailable => "service_unavailable_error",
        Kind::Timeout => "timeout_error",
        _ => "server_error",
    };
    let error = json!({"error": {
        "message": error.to_string(), "type": kind, "param": error.get_param(), "code": error.get_code(),
    }});
    error.to_string().into_bytes()
}

/// An upstream's refusal: its status says the kind, its body the words, in whichever shape it wrote them.
pub(in crate::dialect) fn refusal(status: u16, body: &[u8]) -> Error {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let message = message(&json).unwrap_or_else(|| plain(status, body));
    let mut error = Error::new(kind(status, &json, &message), message);
    if error.kind() == Kind::NotFound && json["error"]["param"] == "model" {
        error = error.code("model_not_found");
    }
    if [&json["error"]["code"], &json["error"]["type"]].iter().any(|word| *word == "insufficient_quota") {
        error = error.code("insufficient_quota");
    }
    if let Some(param) = json["error"]["param"].as_str() {
        error = error.param(param);
    }
    match error.kind() {
        Kind::Overloaded | Kind::Unavailable => error.retry_after(Duration::from_secs(1)),
        _ => error,
    }
}

/// `error.message`, `message`, `detail` or `error`: vLLM alone has four shapes.
fn message(json: &Value) -> Option<String> {
    let found = [&json["error"]["message"], &json["message"], &json["detail"], &json["error"]];
    found.into_iter().find_map(Value::as_str).filter(|m| !m.trim().is_empty()).map(tidy)
}

fn plain(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    match text.trim() {
        "" => format!("the upstream answered {status}"),
        html if html.starts_with('<') => format!("the upstream answered {status} with a page of HTML"),
        text => format!("the upstream answered {status}: {}", tidy(text)),
    }
}

fn tidy(text: &str) -> String {
    text.chars().take(1000).collect::<String>().trim().to_owned()
}

fn kind(status: u16, json: &Value, message: &str) -> Kind {
    if let Some(kind) = json["error"]["code"].as_str().and_then(kind_of_code) {
        return kind;
    }
    let says = |words: &[&str]| words.iter().any(|w| message.contains(w));
    match status {
        400 | 413 | 422
            if says(&[
                "maximum context length",
                "maximum model length",
                "exceeds the available context",
                "max_model_len=",
            ]) =>
        {
            Kind::ContextLength
        }
        401 | 403 => Kind::Unauthorized,
        404 => Kind::NotFound,
        408 | 504 => Kind::Timeout,
        429 => Kind::RateLimited,
        501 => Kind::Unsupported,
        503 if says(&["oading"]) => Kind::Loading,
        503 => Kind::Overloaded,
        // A vLLM that was told to end says so while it still ends what it has begun.
        500 if says(&["after shutdown"]) => Kind::Unavailable,
        400..=499 => Kind::Invalid,
        _ => Kind::Upstream,
    }
}

/// The words of OpenAI and of our own server: so a refusal keeps its kind on its way through one more house.
fn kind_of_code(code: &str) -> Option<Kind> {
    Some(match code {
        "context_length_exceeded" => Kind::ContextLength,
        "model_loading" => Kind::Loading,
        "model_not_found" => Kind::NotFound,
        "model_unavailable" => Kind::Unavailable,
        "queue_full" => Kind::Overloaded,
        "unsupported" => Kind::Unsupported,
        _ => return None,
    })
}

/// A failure that came inside a stream, where no status tells the kind: the code may be one, else the type implies it.
pub(super) fn failure(body: &[u8]) -> Error {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let code = json["error"]["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    refusal(code.unwrap_or_else(|| status_of_type(&json["error"]["type"])), body)
}

fn status_of_type(word: &Value) -> u16 {
    match word.as_str() {
        Some("invalid_request_error") => 400,
        Some("authentication_error") => 401,
        Some("rate_limit_error") => 429,
        Some("service_unavailable_error") => 503,
        Some("timeout_error") => 504,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_that_vllm_sends_is_understood() {
        let shapes: &[(u16, &str, Kind, &str)] = &[
            (
                400,
                r#"{"error":{"message":"bad","type":"BadRequestError","param":"temperature","code":400}}"#,
                Kind::Invalid,
                "bad",
            ),
            (401, r#"{"error":"Unauthorized"}"#, Kind::Unauthorized, "Unauthorized"),
            (404, r#"{"detail":"Not Found"}"#, Kind::NotFound, "Not Found"),
            (400, r#"{"object":"error","message":"flat","code":400}"#, Kind::Invalid, "flat"),
            (429, "slow down", Kind::RateLimited, "the upstream answered 429: slow down"),
            (502, "<html>..", Kind::Upstream, "the upstream answered 502 with a page of HTML"),
            (503, r#"{"error":{"message":"Loading model","code":503}}"#, Kind::Loading, "Loading model"),
            (500, "", Kind::Upstream, "the upstream answered 500"),
        ];
        for (status, body, kind, message) in shapes {
            let error = refusal(*status, body.as_bytes());
            assert_eq!((error.kind(), error.message()), (*kind, *message));
        }
        let error = refusal(400, br#"{"error":{"message":"This model's maximum context length is 2048 tokens."}}"#);
        assert_eq!(error.get_code(), Some("context_length_exceeded"));
    }

    #[test]
    fn what_we_refuse_is_understood_as_the_same_by_another_house() {
        for (kind, status) in [
            (Kind::Invalid, 400),
            (Kind::Unsupported, 400),
            (Kind::ContextLength, 400),
            (Kind::Unauthorized, 401),
            (Kind::RateLimited, 429),
            (Kind::Overloaded, 503),
            (Kind::Loading, 503),
            (Kind::Timeout, 504),
            (Kind::Upstream, 502),
        ] {
            let error = Error::new(kind, "the words are of no matter").param("model");
            // Behind a status, and inside a stream that had begun with comments.
            for read in [refusal(status, &body(&error)), failure(&body(&error))] {
                let told = (read.kind(), read.message(), read.get_param(), read.get_code());
                assert_eq!(told, (kind, error.message(), error.get_param(), error.get_code()));
            }
        }
        let unknown = body(&Error::new(Kind::NotFound, "no such model: gpt-9").code("model_not_found").param("model"));
        assert!([refusal(404, &unknown), failure(&unknown)].iter().all(|read| read.kind() == Kind::NotFound));
    }

    #[test]
    fn our_errors_have_string_codes() {
        let error = Error::new(Kind::NotFound, "no such model: gpt-9").code("model_not_found").param("model");
        let json: Value = serde_json::from_slice(&body(&error)).unwrap();
        assert_eq!(json["error"]["code"], "model_not_found");
        assert_eq!(json["error"]["type"], "invalid_request_error");
    }
}

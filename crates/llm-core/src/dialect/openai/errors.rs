//! Errors in OpenAI's shape: ours written, and every shape that servers send understood.
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::error::{DEADLINE, DRAINING, Error, Kind};

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
    let mut error = Error::new(kind(status, &json, &message), message).quoted();
    if error.kind() == Kind::NotFound && json["error"]["param"] == "model" {
        error = error.code("model_not_found");
    }
    let is_poor = [&json["error"]["code"], &json["error"]["type"]].iter().any(|word| *word == "insufficient_quota");
    error = match status {
        402 => error.code("insufficient_quota"),
        407 => error.code("proxy_refused"),
        408 => error.code(DEADLINE),
        _ if is_poor => error.code("insufficient_quota"),
        _ if json["error"]["code"] == DRAINING || is_ending(status, error.message()) => error.code(DRAINING),
        _ => error,
    };
    match json["error"]["param"].as_str().map(str::to_owned).or_else(|| json["detail"][0].get("loc").map(place)) {
        Some(param) => error.param(param),
        None => error,
    }
}

/// `error.message`, `message`, `detail` or `error`: vLLM alone has four shapes, and FastAPI's `detail` is a list.
fn message(json: &Value) -> Option<String> {
    let found =
        [&json["error"]["message"], &json["message"], &json["detail"], &json["error"], &json["detail"][0]["msg"]];
    found.into_iter().find_map(Value::as_str).filter(|m| !m.trim().is_empty()).map(tidy)
}

/// `["body", "messages", 0]` as `messages.0`.
fn place(loc: &Value) -> String {
    let words = loc.as_array().into_iter().flatten().filter(|word| *word != "body");
    words.map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect::<Vec<_>>().join(".")
}

/// Where the body has no words that we know. JSON is not quoted: it may hold the prompt.
fn plain(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    match text.trim() {
        html if html.starts_with('<') => format!("the upstream answered {status} with a page of HTML"),
        text if text.is_empty() || text.starts_with(['{', '[']) => format!("the upstream answered {status}"),
        text => format!("the upstream answered {status}: {}", tidy(text)),
    }
}

/// Bounded, and without the addresses of machines and what may be of a key: those are nobody's business out here.
fn tidy(text: &str) -> String {
    let text: String = text.chars().take(1000).collect();
    let words = text.trim().split(' ').map(|word| match word {
        word if names_a_machine(word) => "[address]",
        word if is_of_a_key(word) => "[key]",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `sk-abc`, or one with its middle left out: `a***b`.
fn is_of_a_key(word: &str) -> bool {
    let value = word.rsplit(['=', ':']).next().unwrap_or_default();
    let value = value.trim_matches(|c: char| !c.is_alphanumeric() && c != '*');
    KEYS.iter().any(|begins| value.starts_with(begins)) || value.contains("***")
}

/// How keys begin: OpenAI's and Anthropic's, Groq's, Hugging Face's, xAI's, Perplexity's, Google's.
const KEYS: [&str; 7] = ["sk-", "gsk_", "hf_", "xai-", "pplx-", "AIza", "sk_"];

fn names_a_machine(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    let url = word.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    let host = url.unwrap_or(word);
    let (name, port) = host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    // Other addresses with a dot and no port are of public pages: where to get a key.
    let is_inside = port.is_some() || !name.contains('.') || name.ends_with(".internal") || name.ends_with(".local");
    name.parse::<Ipv4Addr>().is_ok() || url.is_some() && is_inside
}

/// What servers say of prompts that are too long.
const TOO_LONG: &[&str] = &[
    "maximum context length",        // vLLM, OpenAI
    "maximum model length",          // vLLM
    "max_model_len=",                // vLLM
    "exceeds the available context", // llama-server
    "the model's context length",    // SGLang
    "context length of only",        // LM Studio
    "`max_new_tokens` must be",      // TGI, Together
    "must have less than",           // TEI, TGI
];
/// A server without eyes, in words of llama-server's, which calls that its own failure.
const NO_IMAGES: &[&str] = &["image input is not supported"];
/// What vLLM says of its callers' images, and calls its own failure: a file of its machine's, an address where nobody
/// answers, a picture that is too large.
const BAD_IMAGE: &[&str] = &["Cannot load local files", "Cannot connect to host", "exceeds limit of"];

fn kind(status: u16, json: &Value, message: &str) -> Kind {
    if let Some(kind) = json["error"]["code"].as_str().and_then(kind_of_code) {
        return kind;
    }
    let says = |words: &[&str]| words.iter().any(|w| message.contains(w));
    match status {
        400 | 413 | 422 if says(TOO_LONG) => Kind::ContextLength,
        401 | 403 => Kind::Unauthorized,
        402 => Kind::RateLimited, // the account's, not the caller's
        407 => Kind::Upstream,    // a proxy's on the way there
        409 => Kind::Overloaded,  // what OpenAI's own clients try again
        404 => Kind::NotFound,
        408 | 504 => Kind::Timeout,
        429 => Kind::RateLimited,
        501 => Kind::Unsupported,
        503 if says(&["oading"]) => Kind::Loading,
        503 => Kind::Overloaded,
        500 if is_ending(status, message) => Kind::Unavailable,
        500 if says(NO_IMAGES) => Kind::Unsupported,
        500 if says(BAD_IMAGE) => Kind::Invalid,
        400..=499 => Kind::Invalid,
        _ => Kind::Upstream,
    }
}

/// A vLLM that was told to end says so while it still ends what it has begun.
fn is_ending(status: u16, message: &str) -> bool {
    status == 500 && message.contains("after shutdown")
}

/// The words of OpenAI and of our own server: so a refusal keeps its kind on its way through one more house.
fn kind_of_code(code: &str) -> Option<Kind> {
    Some(match code {
        "context_length_exceeded" => Kind::ContextLength,
        "model_loading" => Kind::Loading,
        "model_not_found" => Kind::NotFound,
        "model_unavailable" | DRAINING => Kind::Unavailable,
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
            (500, r#"{"my":"prompt"}"#, Kind::Upstream, "the upstream answered 500"),
            (
                500,
                r#"{"error":{"message":"cannot schedule new futures after shutdown","type":"InternalServerError","param":null,"code":500}}"#,
                Kind::Unavailable,
                "cannot schedule new futures after shutdown",
            ),
            (422, r#"{"detail":[{"loc":["body","n"],"msg":"Input should be 1"}]}"#, Kind::Invalid, "Input should be 1"),
        ];
        for (status, body, kind, message) in shapes {
            let error = refusal(*status, body.as_bytes());
            assert_eq!((error.kind(), error.message()), (*kind, *message));
        }
        let error = refusal(422, br#"{"detail":[{"loc":["body","messages",0,"role"],"msg":"Input should be .."}]}"#);
        assert_eq!(error.get_param(), Some("messages.0.role"));
        let poor = refusal(402, br#"{"error":{"message":"Insufficient credits","code":402}}"#);
        assert_eq!((poor.kind(), poor.get_code()), (Kind::RateLimited, Some("insufficient_quota")));
    }

    #[test]
    fn machines_are_not_named() {
        let error = refusal(
            500,
            br#"{"error":"Cannot connect to host 10.0.0.3:8000 ssl:default [Connect call failed ('10.0.0.3', 8000)], see http://gpu7/x"}"#,
        );
        let said = "Cannot connect to host [address] ssl:default [Connect call failed [address] 8000)], see [address]";
        assert_eq!(error.message(), said);
        assert_eq!(error.for_others().message(), "the upstream failed to answer (invalid)");
        let wrong = r#"{"error":{"message":"Incorrect API key provided: sk-proj-ab***********yz. Find yours there."}}"#;
        assert_eq!(refusal(401, wrong.as_bytes()).message(), "Incorrect API key provided: [key] Find yours there.");
        assert_eq!(tidy("Bearer 'gsk_abc' api_key=sk-1 at 10:30"), "Bearer [key] [key] at 10:30");
        let help = "no key: get one at https://example.com/keys.";
        assert_eq!(refusal(401, json!({"error": help}).to_string().as_bytes()).message(), help);
    }

    #[test]
    fn every_servers_words_for_a_prompt_that_is_too_long_are_known() {
        for (status, said) in [
            (400, "This model's maximum context length is 2048 tokens."),
            (400, "The input (9000 tokens) is longer than the model's context length (8192 tokens)."),
            (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4100"),
            (413, "Input validation error: `inputs` must have less than 512 tokens. Given: 1000"),
            (400, "the request exceeds the available context size, try increasing it"),
            (400, "the model is loaded with context length of only 4096 tokens, which is not enough"),
        ] {
            let error = refusal(status, json!({"error": said}).to_string().as_bytes());
            assert_eq!(error.get_code(), Some("context_length_exceeded"), "{said}");
        }
    }

    #[test]
    fn an_image_that_a_server_cannot_have_is_the_callers_mistake_whatever_it_calls_it() {
        for (said, kind) in [
            ("Cannot load local files without `--allowed-local-media-path`.", Kind::Invalid),
            ("Cannot connect to host 127.0.0.1:1 ssl:default [Connect call failed]", Kind::Invalid),
            ("Image size (400000000 pixels) exceeds limit of 178956970 pixels", Kind::Invalid),
            ("image input is not supported - hint: if this is unexpected, ..", Kind::Unsupported),
            ("Engine core died", Kind::Upstream),
        ] {
            let error = refusal(500, json!({"error": {"message": said, "code": 500}}).to_string().as_bytes());
            assert_eq!((error.kind(), error.kind().is_sick()), (kind, kind == Kind::Upstream), "{said}");
        }
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

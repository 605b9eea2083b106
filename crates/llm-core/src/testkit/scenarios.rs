//! Servers as they really behave: each scenario is one way to be difficult, and what a caller should see of it.
use std::time::Duration;

use serde_json::{Value, json};

use super::conformance::Complaints;
use super::mock::{Mock, Step};
use super::shapes::{end, error, event, said, streamed, text, whole};
use super::wanted::{self, Check, Trial};
use super::wire::{answer, chunk, events_in_chunks, events_until_close};
use crate::llm::Llm;

/// What a server does, whatever it is asked over `/v1/chat/completions`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use llm_core::testkit::scenarios::PARALLEL_TOOLS;
/// use llm_core::{Config, Llm};
/// let server = PARALLEL_TOOLS.serve().await;
/// let llm = Llm::new(&Config::from_toml(&format!("[models.m]\nprovider = 'vllm'\nbase_url = '{}'", server.url()))?)?;
/// let mut stream = llm.stream("What is the weather in Paris and Rome?").await?;
/// while stream.next().await?.is_some() {}
/// assert_eq!(stream.so_far().tool_calls.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What the server does.
    pub does: &'static str,
    /// What a caller should see.
    pub wanted: &'static str,
    refuses_for: Duration,
    connections: fn() -> Vec<Vec<Step>>,
    sees: Check,
}

impl Scenario {
    /// Starts a server that behaves so, on a free port and on the runtime of the caller.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn serve(&self) -> Mock {
        Mock::start_after(self.refuses_for, (self.connections)()).await
    }

    /// Puts a program to it: asks a server that behaves so through an [`Llm`] made of its base URL, and looks whether the
    /// caller sees what is wanted. The `Llm` tries again at least twice, and gives up what says nothing for a third of a
    /// second or so; else it takes long.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use llm_core::testkit::scenarios::{BUSY_IN_PLAIN_TEXT, STALL};
    /// use llm_core::{Config, Llm};
    /// let settings = "retry = { wait_ms = 10 }\n[models.m]\nprovider = 'vllm'\ntimeout = { first_s = 0.3, idle_s = 0.3 }";
    /// let llm = |url: &str| Llm::new(&Config::from_toml(&format!("{settings}\nbase_url = '{url}'")).unwrap()).unwrap();
    /// for scenario in [BUSY_IN_PLAIN_TEXT, STALL] {
    ///     scenario.check(llm).await.unwrap();
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the caller saw instead.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn check(&self, llm: impl Fn(&str) -> Llm + Send + Sync) -> Result<(), Complaints> {
        let trial = Trial { scenario: *self, llm: &llm };
        let seen = (self.sees)(&trial).await;
        seen.map_err(|why| Complaints(vec![format!("{}: {why}; wanted: {}", self.name, self.wanted)]))
    }

    const fn new(
        name: &'static str,
        does: &'static str,
        wanted: &'static str,
        connections: fn() -> Vec<Vec<Step>>,
        sees: Check,
    ) -> Scenario {
        Scenario { name, does, wanted, refuses_for: Duration::ZERO, connections, sees }
    }
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; wanted: {}", self.name, self.does, self.wanted)
    }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    CONTEXT_LENGTH,
    FLAT_ERROR,
    BUSY_IN_PLAIN_TEXT,
    BUSY_WITH_A_NUMBER,
    UNAVAILABLE,
    RETRY_AFTER,
    REFUSED_AT_FIRST,
    ODD_FINISH,
    REASONING,
    ERROR_IN_STREAM,
    CUT,
    RESET,
    PARALLEL_TOOLS,
    BYTE_BY_BYTE,
    HANG,
    STALL,
    ENDLESS,
    REFUSED_STREAM,
    WHOLE_FOR_STREAM,
];

/// vLLM's refusal of a prompt that is too long, its code a number.
pub const CONTEXT_LENGTH: Scenario = Scenario::new(
    "context_length",
    "answers 400 in vLLM's shape, with an integer as the code",
    "Kind::ContextLength with context_length_exceeded, at once",
    || refusing(&[answer("400 Bad Request", JSON, &too_long())]),
    |trial| Box::pin(wanted::too_long(trial)),
);

/// The same in the flat shape of older vLLMs.
pub const FLAT_ERROR: Scenario = Scenario::new(
    "flat_error",
    "answers 400 with {\"object\":\"error\",..}",
    "Kind::ContextLength, at once",
    || {
        let body =
            json!({"object": "error", "message": TOO_LONG, "type": "BadRequestError", "param": null, "code": 400});
        refusing(&[answer("400 Bad Request", JSON, &body.to_string())])
    },
    |trial| Box::pin(wanted::too_long(trial)),
);

/// Busy, in the plain text of a proxy; answers "fine" from the second request on.
pub const BUSY_IN_PLAIN_TEXT: Scenario = Scenario::new(
    "busy_in_plain_text",
    "answers 429 in plain text, then well",
    "the answer: it is tried again",
    || then_well(answer("429 Too Many Requests", "content-type: text/plain\r\nconnection: close\r\n", "slow down")),
    |trial| Box::pin(wanted::busy(trial)),
);

/// Busy, in JSON whose code is a number; answers "fine" from the second request on.
pub const BUSY_WITH_A_NUMBER: Scenario = Scenario::new(
    "busy_with_a_number",
    "answers 429 in JSON with an integer as the code, then well",
    "the answer: it is tried again",
    || {
        let body = error("Too many requests", "RateLimitError", Value::Null, 429);
        then_well(answer("429 Too Many Requests", JSON, &body))
    },
    |trial| Box::pin(wanted::busy(trial)),
);

/// Out of order for a moment; answers "fine" from the second request on.
pub const UNAVAILABLE: Scenario = Scenario::new(
    "unavailable",
    "answers 503, then well",
    "the answer: it is tried again",
    || then_well(answer("503 Service Unavailable", JSON, &error("busy", "ServiceUnavailable", Value::Null, 503))),
    |trial| Box::pin(wanted::busy(trial)),
);

/// Says how long to wait, and longer than anybody would by himself; answers "fine" from the second request on.
pub const RETRY_AFTER: Scenario = Scenario::new(
    "retry_after",
    "answers 503 with Retry-After: 2, then well",
    "the answer, two seconds later",
    || {
        let headers = [JSON, "retry-after: 2\r\n"].concat();
        then_well(answer("503 Service Unavailable", &headers, &error("busy", "ServiceUnavailable", Value::Null, 503)))
    },
    |trial| Box::pin(wanted::waits(trial)),
);

/// Is being started: connections are refused for 300 ms, and then it answers "fine".
pub const REFUSED_AT_FIRST: Scenario = Scenario {
    refuses_for: Duration::from_millis(300),
    ..Scenario::new(
        "refused_at_first",
        "refuses connections for 300 ms, then answers well",
        "the answer: it is tried again",
        || vec![vec![Step::ReadQuestion, Step::Says("fine")]],
        |trial| Box::pin(wanted::answers(trial)),
    )
};

/// Ends its answers for reasons that OpenAI has no word for.
pub const ODD_FINISH: Scenario = Scenario::new(
    "odd_finish",
    "ends its answers with \"abort\", then \"repetition\", then an empty reason, and so on with the last",
    "the answer \"fine\"; FinishReason::Other with the word, and Stop for none",
    || ["abort", "repetition", ""].map(|why| vec![Step::ReadQuestion, Step::SaysAndEnds("fine", why)]).into(),
    |trial| Box::pin(wanted::odd_finish(trial)),
);

/// Thinks aloud, in vLLM's field and then in the one that others have.
pub const REASONING: Scenario = Scenario::new(
    "reasoning",
    "tells its thoughts as `reasoning`, to the second request as `reasoning_content`, whole or streamed as it is asked",
    "\"let me think\" as reasoning, \"fine\" as text",
    || ["reasoning", "reasoning_content"].map(|field| vec![Step::ReadQuestion, thinking(field)]).into(),
    |trial| Box::pin(wanted::thinks(trial)),
);

/// Fails in mid-stream, in a 200: as vLLM tells it, and then as OpenRouter does.
pub const ERROR_IN_STREAM: Scenario = Scenario::new(
    "error_in_stream",
    "streams \"half\", an error and [DONE]; the error is an event of its own, to the second request one beside a choice",
    "\"half\", then Kind::Upstream in the server's own words, then nothing",
    || {
        let alone = error("the engine died", "InternalServerError", Value::Null, 500);
        let beside = r#"{"id":"x","error":{"message":"the engine died","code":502},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#;
        refusing(&[alone, beside.into()].map(|failure| {
            let events = [text("half"), format!("data: {failure}\n\n"), "data: [DONE]\n\n".into(), String::new()];
            streamed(events.iter().map(String::as_str))
        }))
    },
    |trial| Box::pin(wanted::fails_in_mid_stream(trial)),
);

/// Breaks off without a word: the connection closes as if all had been said.
pub const CUT: Scenario = Scenario::new(
    "cut",
    "streams \"half\" and closes the connection",
    "\"half\", then Kind::Upstream with stream_truncated",
    || refusing(&[[events_until_close(), &text("half")].concat().into_bytes()]),
    |trial| Box::pin(wanted::cut(trial)),
);

/// Dies: the connection is reset.
pub const RESET: Scenario = Scenario::new(
    "reset",
    "streams \"half\" and resets the connection",
    "\"half\", then Kind::Upstream",
    || {
        // A reset takes back what was not read yet.
        vec![vec![Step::ReadQuestion, Step::Send(half()), Step::Pause(Duration::from_millis(200)), Step::Reset]]
    },
    |trial| Box::pin(wanted::reset(trial)),
);

/// Calls two tools at once, in fragments that take turns.
pub const PARALLEL_TOOLS: Scenario = Scenario::new(
    "parallel_tools",
    "streams two tool calls in fragments, names and ids repeated as some servers do",
    "get_weather({\"city\":\"Paris\"}) and get_weather({\"city\":\"Rome\"}), whole, each with its id",
    || refusing(&[tools()]),
    |trial| Box::pin(wanted::two_tools(trial)),
);

/// Is as slow and as ragged as the standard allows.
pub const BYTE_BY_BYTE: Scenario = Scenario::new(
    "byte_by_byte",
    "streams \"Grüße, 世界 🌍\" byte by byte, with CRLF, comments and other fields between",
    "\"Grüße, 世界 🌍\"",
    || vec![vec![Step::ReadQuestion, Step::Send(events_until_close().into()), Step::Trickle(ragged())]],
    |trial| Box::pin(wanted::ragged(trial)),
);

/// Takes the request and says nothing.
pub const HANG: Scenario = Scenario::new(
    "hang",
    "reads the request and never answers",
    "Kind::Timeout when the time is over, and a closed connection",
    || vec![vec![Step::ReadQuestion, Step::UntilClosed]],
    |trial| Box::pin(wanted::hangs(trial)),
);

/// Begins and says nothing more.
pub const STALL: Scenario = Scenario::new(
    "stall",
    "streams \"half\" and then nothing",
    "\"half\", then Kind::Timeout when the time is over, and a closed connection",
    || vec![vec![Step::ReadQuestion, Step::Send(half()), Step::UntilClosed]],
    |trial| Box::pin(wanted::stalls(trial)),
);

/// Would go on for ever: for a client that leaves.
pub const ENDLESS: Scenario = Scenario::new(
    "endless",
    "streams \"half\", and waits for the client to leave",
    "a client that drops the stream closes the connection within 50 ms",
    || vec![vec![Step::ReadQuestion, Step::Send(half()), Step::UntilClosed]],
    |trial| Box::pin(wanted::is_left(trial)),
);

/// Refuses a stream before it begins.
pub const REFUSED_STREAM: Scenario = Scenario::new(
    "refused_stream",
    "answers a request for a stream with 404",
    "Kind::NotFound with model_not_found, from the call and not from the stream",
    || {
        let body = error("The model `m` does not exist.", "NotFoundError", "model".into(), 404);
        refusing(&[answer("404 Not Found", JSON, &body)])
    },
    |trial| Box::pin(wanted::refused(trial)),
);

/// Answers whole although a stream was asked for.
pub const WHOLE_FOR_STREAM: Scenario = Scenario::new(
    "whole_for_stream",
    "answers whole, whatever was asked for",
    "the answer \"fine\"",
    || refusing(&[said("fine", "stop", "")]),
    |trial| Box::pin(wanted::whole_for_stream(trial)),
);

const JSON: &str = "content-type: application/json\r\nconnection: close\r\n";
const TOO_LONG: &str = "This model's maximum context length is 2048 tokens. However, you requested 4000 tokens.";

fn too_long() -> String {
    error(TOO_LONG, "BadRequestError", "input_text".into(), 400)
}

/// Each of these for one connection, the last for all further ones.
fn refusing(answers: &[Vec<u8>]) -> Vec<Vec<Step>> {
    answers.iter().map(|bytes| vec![Step::ReadQuestion, Step::Send(bytes.clone())]).collect()
}

fn then_well(refusal: Vec<u8>) -> Vec<Vec<Step>> {
    vec![vec![Step::ReadQuestion, Step::Send(refusal)], vec![Step::ReadQuestion, Step::Says("fine")]]
}

fn half() -> Vec<u8> {
    [events_in_chunks(), &chunk(&text("half"))].concat().into_bytes()
}

fn thinking(field: &str) -> Step {
    let thoughts = ["let me ", "think"].map(|words| event(&json!({field: words}), &Value::Null));
    let events = thoughts.into_iter().chain([text("fine"), end("stop"), String::new()]).collect::<Vec<_>>();
    let mut message = json!({"role": "assistant", "content": "fine"});
    message[field] = "let me think".into();
    Step::Answers { whole: whole(&message, "stop"), streamed: streamed(events.iter().map(String::as_str)) }
}

fn tools() -> Vec<u8> {
    let first = |index: u32, id: &str| json!({"index": index, "id": id, "type": "function", "function": {"name": "get_weather"}});
    let more = |index: u32, arguments: &str| json!({"index": index, "function": {"name": "get_weather", "arguments": arguments}});
    let pieces = [
        first(0, "call_paris"),
        more(0, "{\"city\":"),
        first(1, "call_rome"),
        more(1, "{\"ci"),
        more(0, "\"Paris\"}"),
        more(1, "ty\":\"Rome\"}"),
    ];
    let events = pieces.into_iter().map(|piece| event(&json!({"tool_calls": [piece]}), &Value::Null));
    let events = events.chain([end("tool_calls"), String::new()]).collect::<Vec<_>>();
    streamed(events.iter().map(String::as_str))
}

fn ragged() -> Vec<u8> {
    let words = ["Grü", "ße, ", "世界", " 🌍"].map(text);
    let between = [": ping\n\n", "event: message\nid: 7\n", "retry: 10\n", ""];
    let events: String = between.iter().zip(&words).map(|(before, event)| [*before, event].concat()).collect();
    [events, end("stop")].concat().replace('\n', "\r\n").into_bytes()
}

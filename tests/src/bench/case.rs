//! What is measured, with its gate: how many times nginx's cost it may be.

use std::time::Duration;

use super::{Options, conversation};

/// One line of the table.
pub(super) struct Case {
    pub name: String,
    pub body: Vec<u8>,
    pub connections: usize,
    pub gate: f64,
    /// A run of each proxy is cut in so many slices of this length.
    pub slices: usize,
    pub slice: Duration,
}

pub(super) fn all(options: &Options) -> Vec<Case> {
    let case = |name: &str, connections, gate, body: String| Case {
        name: format!("{name}, {connections} connections"),
        body: body.into_bytes(),
        connections,
        gate,
        slices: options.slices(10),
        slice: Duration::from_millis(100),
    };
    let at = |connections: usize| {
        [
            case("small chat", connections, 1.5, small()),
            case("37 KB chat", connections, 1.5, conversation::model_first()),
            case("37 KB chat with the model last", connections, 1.5, conversation::model_last()),
            case("unpaced SSE chunk", connections, 2.0, stream("chunks=200")),
        ]
    };
    let paced = case("paced SSE chunk", 64, 1.2, stream("chunks=200 every_ms=5"));
    // A stream lasts a second, and each client asks for one in a slice.
    let paced = Case { slices: options.slices(3), ..paced };
    let cases = options.connections.iter().copied().flat_map(at).chain([paced]);
    cases.filter(|case| case.name.contains(&options.only)).collect()
}

const MESSAGES: &str = r#"[{"role":"user","content":"What is the capital of France?"}]"#;

pub(super) fn small() -> String {
    format!(r#"{{"model":"tiny","messages":{MESSAGES},"temperature":0}}"#)
}

fn stream(script: &str) -> String {
    format!(r#"{{"model":"tiny","messages":{MESSAGES},"temperature":0,"stream":true,"user":"{script}"}}"#)
}

//! What is measured, with its gate: how many times the other's cost it may be.

use std::time::Duration;

use super::{Options, conversation};

/// One line of the table.
pub(super) struct Case {
    pub name: String,
    pub body: Vec<u8>,
    pub connections: usize,
    pub gate: f64,
    /// Whether answers must be the upstream's to the byte.
    pub is_exact: bool,
    /// A run of each proxy is cut in so many slices of this length.
    pub slices: usize,
    pub slice: Duration,
}

impl Case {
    fn new(options: &Options, name: &str, connections: usize, gate: f64, body: String) -> Case {
        Case {
            name: format!("{name}, {connections} connections"),
            body: body.into_bytes(),
            connections,
            gate,
            is_exact: true,
            slices: options.slices(10),
            slice: Duration::from_millis(100),
        }
    }
}

pub(super) fn all(options: &Options) -> Vec<Case> {
    let at = |connections: usize| {
        [
            Case::new(options, "small chat", connections, 1.5, small()),
            Case::new(options, "37 KB chat", connections, 1.5, conversation::model_first()),
            Case::new(options, "37 KB chat with the model last", connections, 1.5, conversation::model_last()),
            Case::new(options, "unpaced SSE chunk", connections, 2.0, stream("chunks=200")),
        ]
    };
    let paced = Case::new(options, "paced SSE chunk", 64, 1.2, stream("chunks=200 every_ms=5"));
    // A stream lasts a second, and each client asks for one in a slice.
    let paced = Case { slices: options.slices(3), ..paced };
    let cases = options.connections.iter().copied().flat_map(at).chain([paced]);
    cases.filter(|case| case.name.contains(&options.only)).collect()
}

/// What other gateways are measured by. They may write answers anew, and are slow: what they need is no gate of ours.
pub(super) fn beside_peers(options: &Options, slices: usize) -> Vec<Case> {
    let cases = [
        ("small chat", small()),
        ("37 KB chat", conversation::model_first()),
        ("unpaced chunk", stream("chunks=200")),
        // A stream lasts a second, and each client asks for one in a slice.
        ("paced chunk", stream("chunks=100 every_ms=10")),
    ];
    let cases = cases.map(|(name, body)| Case::new(options, name, 16, f64::MAX, body));
    let slices = |case: &Case| options.slices(if case.name.starts_with("paced") { 2 } else { slices });
    cases.into_iter().map(|case| Case { is_exact: false, slices: slices(&case), ..case }).collect()
}

/// What must cost the same however much stands beside it.
pub(super) fn beside_much(options: &Options, name: &str, gate: f64) -> Case {
    Case { name: name.into(), ..Case::new(options, name, 16, gate, small()) }
}

const MESSAGES: &str = r#"[{"role":"user","content":"What is the capital of France?"}]"#;

pub(super) fn small() -> String {
    format!(r#"{{"model":"tiny","messages":{MESSAGES},"temperature":0}}"#)
}

pub(super) fn stream(script: &str) -> String {
    format!(r#"{{"model":"tiny","messages":{MESSAGES},"temperature":0,"stream":true,"user":"{script}"}}"#)
}

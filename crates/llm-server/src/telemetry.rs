//! What is told of calls: metrics for Prometheus, and a line in the log.
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use llm_core::policy::{Observer, Outcome};
use llm_core::{Cached, End, Error, Gateway, Operation, Result};
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::log::Log;

/// Watches the calls of a gateway. One for each server; it imposes no global registry.
pub struct Telemetry {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    duration: HistogramVec,
    first: HistogramVec,
    tokens: IntCounterVec,
    kept: IntCounterVec,
    ready: IntGaugeVec,
    load_progress: GaugeVec,
    in_flight: IntGaugeVec,
    queue_depth: IntGaugeVec,
    reload_successful: IntGauge,
    loaded_at: IntGauge,
    handles: RwLock<Known>,
    log: Log,
}

type Known = HashMap<(Operation, Arc<str>), Arc<Handles>>;

/// The metrics of one operation of one model, looked up once.
struct Handles {
    finished: IntCounter,
    cancelled: IntCounter,
    duration: Histogram,
    first: Histogram,
    prompt_tokens: IntCounter,
    completion_tokens: IntCounter,
}

impl Telemetry {
    /// Metrics of their own, and this log.
    ///
    /// # Errors
    /// `Internal` if two metrics bear one name.
    pub fn new(log: Log) -> Result<Arc<Telemetry>> {
        Telemetry::registered(log)
            .map(Arc::new)
            .map_err(|e| Error::new(llm_core::Kind::Internal, "metrics clash").because(e))
    }

    fn registered(log: Log) -> prometheus::Result<Telemetry> {
        let registry = Registry::new();
        let counter = |name, help, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let gauge = |name, help, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let single = |name, help, value| {
            let gauge = IntGauge::new(name, help)?;
            gauge.set(value);
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let histogram = |name, help| {
            // From a cached token to the longest answer.
            let buckets =
                [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0]
                    .to_vec();
            let histogram =
                HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &["operation", "model"])?;
            registry.register(Box::new(histogram.clone())).map(|()| histogram)
        };
        Ok(Telemetry {
            requests: counter(
                "llm_requests_total",
                "Calls that reached a model, by outcome.",
                &["operation", "model", "outcome"],
            )?,
            refusals: counter("llm_refusals_total", "Requests that reached no model, by reason.", &["reason"])?,
            duration: histogram(
                "llm_request_duration_seconds",
                "Until the end of an answer, the wait in line included.",
            )?,
            first: histogram("llm_time_to_first_token_seconds", "Until the first frame, the wait in line included.")?,
            tokens: counter("llm_tokens_total", "Tokens read and made.", &["model", "direction"])?,
            kept: counter(
                "llm_cache_requests_total",
                "Calls whose answers may be kept: a hit was given one, a miss was answered.",
                &["model", "result"],
            )?,
            ready: gauge("llm_model_ready", "1 if the model takes requests.", &["model"])?,
            load_progress: {
                let help = "How much of a model that is being loaded is there, 0 to 1; 1 for all others.";
                let progress = GaugeVec::new(Opts::new("llm_model_load_progress", help), &["model"])?;
                registry.register(Box::new(progress.clone())).map(|()| progress)?
            },
            in_flight: gauge("llm_in_flight", "Answers that are running.", &["model"])?,
            queue_depth: gauge("llm_queue_depth", "Calls that stand in line.", &["model"])?,
            reload_successful: single(
                "llm_config_last_reload_successful",
                "1 if the configuration was right the last time it was read.",
                1,
            )?,
            loaded_at: single(
                "llm_config_last_reload_success_timestamp_seconds",
                "When the configuration that holds was read.",
                (now() / 1000) as i64,
            )?,
            handles: RwLock::default(),
            registry,
            log,
        })
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// A request that reached no model.
    pub(crate) fn refused(&self, id: &str, path: &str, error: &Error) {
        let kind = error.kind().name();
        self.refusals.with_label_values(&[kind]).inc();
        self.log.line(|out| {
            let (id, path) = (serde_json::json!(id), serde_json::json!(path.chars().take(200).collect::<String>()));
            let _ = write!(
                out,
                r#"{{"ts":{},"id":{id},"path":{path},"outcome":"refused","reason":"{kind}"}}"#,
                Thousandths(now())
            );
        });
    }

    /// The configuration was read anew, and was right or not.
    pub(crate) fn reloaded(&self, is_right: bool) {
        self.reload_successful.set(is_right.into());
        if is_right {
            self.loaded_at.set((now() / 1000) as i64);
        }
    }

    /// Prometheus' text format.
    pub(crate) fn exposition(&self, gateway: &Gateway) -> Vec<u8> {
        self.ready.reset();
        self.load_progress.reset();
        self.in_flight.reset();
        self.queue_depth.reset();
        for model in gateway.configured() {
            self.ready.with_label_values(&[&model.id]).set((model.status == "ready").into());
            let loaded = if model.status == "loading" { model.progress.unwrap_or(0.0) } else { 1.0 };
            self.load_progress.with_label_values(&[&model.id]).set(loaded.into());
            self.in_flight.with_label_values(&[&model.id]).set(model.running as i64);
            self.queue_depth.with_label_values(&[&model.id]).set(model.waiting as i64);
        }
        let mut out = Vec::new();
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        out
    }

    fn handles(&self, operation: Operation, model: &Arc<str>) -> Arc<Handles> {
        let key = (operation, model.clone());
        if let Some(known) = self.handles.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let labels = [operation.name(), &**model];
        let handles = Arc::new(Handles {
            finished: self.requests.with_label_values(&[labels[0], labels[1], "finished"]),
            cancelled: self.requests.with_label_values(&[labels[0], labels[1], "cancelled"]),
            duration: self.duration.with_label_values(&labels),
            first: self.first.with_label_values(&labels),
            prompt_tokens: self.tokens.with_label_values(&[labels[1], "prompt"]),
            completion_tokens: self.tokens.with_label_values(&[labels[1], "completion"]),
        });
        self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(key, handles.clone());
        handles
    }
}

impl Observer for Telemetry {
    fn ended(&self, outcome: &Outcome<'_>) {
        let operation = outcome.call.operation;
        let handles = self.handles(operation, outcome.model);
        handles.duration.observe(outcome.total.as_secs_f64());
        outcome.first.inspect(|first| handles.first.observe(first.as_secs_f64()));
        let kept = outcome.call.context.progress.borrow().cached.map(|kept| matches!(kept, Cached::Hit(_)));
        if let Some(is_hit) = kept {
            self.kept.with_label_values(&[&**outcome.model, if is_hit { "hit" } else { "miss" }]).inc();
        }
        let (word, usage) = match outcome.end {
            End::Finished(usage) => {
                handles.finished.inc();
                // What was kept cost its first caller, and nobody since.
                ("finished", usage.filter(|_| kept != Some(true)).unwrap_or_default())
            }
            End::Dropped => {
                handles.cancelled.inc();
                ("cancelled", Default::default())
            }
            End::Failed(kind) => {
                self.requests.with_label_values(&[operation.name(), outcome.model, kind.name()]).inc();
                (kind.name(), Default::default())
            }
        };
        handles.prompt_tokens.inc_by(usage.prompt_tokens.into());
        handles.completion_tokens.inc_by(usage.completion_tokens.into());
        self.log.line(|out| {
            let _ = write!(out, r#"{{"ts":{},"id":""#, Thousandths(now()));
            escape(&outcome.call.context.id, out);
            if !outcome.call.context.caller.is_empty() {
                out.extend_from_slice(br#"","caller":""#);
                escape(&outcome.call.context.caller, out);
            }
            let _ = write!(out, r#"","operation":"{}","model":""#, operation.name());
            escape(outcome.model, out);
            let _ = write!(out, r#"","outcome":"{word}","ms":{}"#, Thousandths(outcome.total.as_micros()));
            if let Some(first) = outcome.first {
                let _ = write!(out, r#","first_ms":{}"#, Thousandths(first.as_micros()));
            }
            if let Some(is_hit) = kept {
                out.extend_from_slice(if is_hit { br#","cache":"hit""# } else { br#","cache":"miss""# });
            }
            let _ = write!(
                out,
                r#","prompt_tokens":{},"completion_tokens":{}}}"#,
                usage.prompt_tokens, usage.completion_tokens
            );
        });
    }
}

/// Ids and names are printable; a quote or a backslash in one must not break the line.
fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(if byte < 0x20 { b' ' } else { byte });
    }
}

/// Milliseconds since 1970.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis())
}

/// Shown with its point: to write a float costs ten times as much.
struct Thousandths(u128);

impl std::fmt::Display for Thousandths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

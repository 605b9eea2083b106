//! What gateways do with a call beyond passing it on, seen from both ends: the client's and the upstream's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;

use super::proxies::{KEY, Kind, Proxy, Turns};
use crate::load::{Connection, Head, post};
use crate::upstream::Upstream;

/// One line of the table for all gateways.
pub(super) const LINES: [&str; 9] = [
    "fields it does not know reach the upstream",
    "the upstream gets the client's bytes",
    "a client leaves before the first byte: told in 1 s",
    "a client leaves in mid-stream: told in 1 s",
    "a stream that breaks off",
    "statuses 400, 429, 503 (+: Retry-After too)",
    "how often an upstream that says 503 is asked",
    "a client leaves the line: never asked for",
    "the line is first come, first served",
];

/// How soon the upstream must know that a client has left.
const AT_ONCE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);
/// No answer to one question of the table takes longer, with all the waiting for the gateway to recover.
const LONGEST: Duration = Duration::from_secs(150);
/// Longer than any gateway takes to pass a small request on.
const PASSED_ON: Duration = Duration::from_millis(300);
/// Calls that stand in line behind one that runs.
const IN_LINE: usize = 6;

/// What one gateway did, a word or two for each line.
pub(super) async fn of(kind: &Kind) -> Result<Vec<String>> {
    let stage = Stage::set(kind, Turns::Many).await?;
    let mut told = vec![
        words(stage.keeps_fields()).await,
        words(stage.keeps_bytes()).await,
        words(stage.leaves_early()).await,
        words(stage.leaves_late()).await,
        words(stage.breaks_off()).await,
        words(stage.refusals()).await,
    ];
    told.push(stage.asked("refuse with 503").to_string());
    drop(stage);
    let stage = Stage::set(kind, Turns::One).await?;
    told.extend([words(stage.leaves_the_line()).await, words(stage.keeps_order()).await]);
    Ok(told)
}

/// A gateway may also fail in a way that nobody thought of, or never answer.
async fn words(probe: impl Future<Output = Result<String>>) -> String {
    let told = tokio::time::timeout(LONGEST, probe).await.context("no end").flatten();
    told.unwrap_or_else(|error| format!("? {error}"))
}

/// A gateway before an upstream in this process, which remembers what it was asked.
struct Stage {
    proxy: Proxy,
    upstream: Upstream,
    _folder: TempDir,
}

impl Stage {
    async fn set(kind: &Kind, turns: Turns) -> Result<Stage> {
        let (upstream, folder) = (Upstream::start().await?, tempfile::tempdir()?);
        let proxy = kind.start(folder.path(), upstream.address(), turns).await?;
        Ok(Stage { proxy, upstream, _folder: folder })
    }

    async fn keeps_fields(&self) -> Result<String> {
        let fields = r#","chat_template_kwargs":{"enable_thinking":false},"min_p":0.05,"x_custom":{"a":[1,null,"b"]}"#;
        let sent = chat("has fields", fields);
        self.ask(&sent).await?;
        let (sent, got): (Value, Value) =
            (serde_json::from_str(&sent)?, serde_json::from_slice(&self.got("has fields")?)?);
        let lost = ["chat_template_kwargs", "min_p", "x_custom"].into_iter().filter(|name| sent[name] != got[name]);
        let lost: Vec<&str> = lost.collect();
        Ok(if lost.is_empty() { "yes".into() } else { format!("not {}", lost.join(", ")) })
    }

    async fn keeps_bytes(&self) -> Result<String> {
        let sent =
            r#"{ "temperature":1.0,  "messages":[{"content":"as it is: caf\u00e9","role":"user"}],"model":"tiny" }"#;
        self.ask(sent).await?;
        Ok(if self.got("as it is")? == sent { "yes" } else { "no" }.into())
    }

    async fn leaves_early(&self) -> Result<String> {
        let client = self.begin(&chat("leaves early", r#","user":"first_ms=4000""#)).await?;
        Ok(self.leaves(client).await)
    }

    async fn leaves_late(&self) -> Result<String> {
        let stream = chat("leaves late", r#","stream":true,"user":"chunks=200 every_ms=20""#);
        let mut client = self.begin(&stream).await?;
        client.head().await?;
        client.chunk(&mut Vec::new()).await?;
        Ok(self.leaves(client).await)
    }

    /// Whether the upstream hears of it.
    async fn leaves(&self, client: Connection) -> String {
        let (left, leaves) = (self.upstream.seen().now().left, Instant::now());
        drop(client);
        let told = self.upstream.seen().until(AT_ONCE, |tally| tally.left > left).await;
        told.map_or("no".into(), |_| format!("yes, {} ms", leaves.elapsed().as_millis()))
    }

    async fn breaks_off(&self) -> Result<String> {
        let body = chat("breaks off", r#","stream":true,"user":"chunks=20 every_ms=20 cut_after=5""#);
        let (mut client, mut text) = (self.begin(&body).await?, Vec::new());
        client.head().await?;
        let ends = loop {
            match client.chunk(&mut text).await {
                Ok(true) => {}
                Ok(false) => break true,
                Err(_) => break false,
            }
        };
        let says = |word: &[u8]| memchr::memmem::find(&text, word).is_some();
        Ok(match (says(b"\"error\""), ends) {
            (true, _) => "an error in the stream",
            (false, false) => "the connection breaks",
            (false, true) if says(b"[DONE]") => "hidden: [DONE]",
            (false, true) => "hidden: it ends",
        }
        .into())
    }

    async fn refusals(&self) -> Result<String> {
        let mut seen = Vec::new();
        for status in [400, 429, 503] {
            seen.push(words(self.refused(status)).await);
        }
        Ok(seen.join(" "))
    }

    async fn refused(&self, status: u16) -> Result<String> {
        self.settle().await?;
        let wish = format!(r#","user":"status={status} retry_after=2""#);
        let (head, _) = self.ask(&chat(&format!("refuse with {status}"), &wish)).await?;
        Ok(format!("{}{}", head.status, if head.retry_after == Some(2) { "+" } else { "" }))
    }

    async fn leaves_the_line(&self) -> Result<String> {
        let mut running = self.begin(&chat("runs", r#","user":"first_ms=1500""#)).await?;
        let mut waiting = self.send(&chat("waits", "")).await?;
        let head = tokio::time::timeout(PASSED_ON, waiting.head()).await;
        if self.asked("waits") > 0 {
            return Ok("no line".into());
        }
        if let Ok(head) = head {
            return Ok(format!("no line: {}", head?.status));
        }
        drop(waiting);
        tokio::time::timeout(PATIENCE, running.head()).await??;
        tokio::time::sleep(PASSED_ON).await;
        Ok(if self.asked("waits") == 0 { "yes" } else { "no" }.into())
    }

    async fn keeps_order(&self) -> Result<String> {
        let _running = self.begin(&chat("runs again", r#","user":"first_ms=1500""#)).await?;
        let mut line = Vec::new();
        for place in 0..IN_LINE {
            line.push(self.send(&chat(&format!("place {place}"), r#","user":"first_ms=50""#)).await?);
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        if self.asked("place ") > 0 {
            return Ok("no line".into());
        }
        let heads = join_all(line.iter_mut().map(|client| tokio::time::timeout(PATIENCE, client.head()))).await;
        let refused =
            heads.iter().filter_map(|head| head.as_ref().ok()?.as_ref().ok()).filter(|head| head.status != 200);
        let refused: Vec<String> = refused.map(|head| head.status.to_string()).collect();
        let order = self.order();
        Ok(match (order.is_sorted(), order.len()) {
            (true, IN_LINE) => "yes".into(),
            (true, _) => format!("{} of {IN_LINE} refused: {}", refused.len(), refused.join(" ")),
            (false, _) => format!("no: {order:?} {}", refused.join(" ")),
        })
    }

    /// The places in line as the upstream was asked for them.
    fn order(&self) -> Vec<usize> {
        let bodies = self.upstream.seen().bodies();
        let place = |body: &[u8]| (0..IN_LINE).find(|place| holds(body, &format!("place {place}")));
        bodies.iter().filter_map(|body| place(body)).collect()
    }

    /// Waits until nothing is under way upstream and the gateway passes questions on: what was refused rests for a while.
    async fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let quiet = self.upstream.seen().until(PATIENCE, |tally| tally.open == 0).await;
            let answer = self.ask(&chat("settles", "")).await;
            if quiet.is_ok() && answer.is_ok_and(|(head, _)| head.status == 200) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("it recovers not")
    }

    async fn ask(&self, body: &str) -> Result<(Head, Vec<u8>)> {
        let mut answer = Vec::new();
        let request = post("/v1/chat/completions", Some(KEY), body.as_bytes());
        let head = Connection::open(self.proxy.address).await?.ask(&request, &mut answer).await?;
        Ok((head, answer))
    }

    async fn send(&self, body: &str) -> Result<Connection> {
        let mut client = Connection::open(self.proxy.address).await?;
        client.send(&post("/v1/chat/completions", Some(KEY), body.as_bytes())).await?;
        Ok(client)
    }

    /// Asks when all is quiet, and waits until the upstream is at it.
    async fn begin(&self, body: &str) -> Result<Connection> {
        self.settle().await?;
        let client = self.send(body).await?;
        let at_it = self.upstream.seen().until(PATIENCE, |tally| tally.open == 1).await;
        at_it.map_err(|_| anyhow::anyhow!("the upstream is not asked"))?;
        Ok(client)
    }

    fn got(&self, words: &str) -> Result<bytes::Bytes> {
        let bodies = self.upstream.seen().bodies();
        bodies.into_iter().rfind(|body| holds(body, words)).context("the upstream was not asked")
    }

    fn asked(&self, words: &str) -> usize {
        self.upstream.seen().bodies().iter().filter(|body| holds(body, words)).count()
    }
}

fn holds(body: &[u8], words: &str) -> bool {
    memchr::memmem::find(body, words.as_bytes()).is_some()
}

/// These words tell it from others upstream.
fn chat(words: &str, more: &str) -> String {
    format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"{words}"}}]{more}}}"#)
}

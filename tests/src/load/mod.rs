//! A load of keep-alive clients that compare every answer with the one expected.

mod connection;
mod memory;
mod report;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

pub use connection::{Connection, Head};
pub use memory::resident;
pub use report::Report;

/// What every client asks, over and over, and must be told.
#[derive(Debug, Clone)]
pub struct Question {
    /// The request, head and body.
    pub request: Vec<u8>,
    /// The body of its answer, chunks joined; any other, or another status than 200, is a failure.
    pub answer: Vec<u8>,
    /// Whether every byte counts; if not, an answer need only be 200 and, if it is a stream, have most of its events
    /// and its end.
    pub is_exact: bool,
}

impl Question {
    /// Learns the answer by asking once.
    pub async fn learn(address: SocketAddr, request: Vec<u8>) -> Result<Question> {
        let mut answer = Vec::new();
        let head = Connection::open(address).await?.ask(&request, &mut answer).await?;
        ensure!(head.status == 200, "{} from {address}: {}", head.status, String::from_utf8_lossy(&answer));
        Ok(Question { request, answer, is_exact: true })
    }

    /// The same for a gateway that writes answers anew.
    #[must_use]
    pub fn in_other_words(self) -> Question {
        Question { is_exact: false, ..self }
    }

    /// The server-sent events of the answer; zero if it is no stream.
    pub fn events(&self) -> usize {
        events(&self.answer)
    }
}

/// A chat request as a client library would send it.
pub fn post(path: &str, key: Option<&str>, body: &[u8]) -> Vec<u8> {
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: */*\r\n\
         user-agent: llm-tests\r\n{key}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// When a run ends and how fast it goes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// No client begins a question after this time.
    pub lasts: Duration,
    /// Nor after it has asked so many.
    pub each: usize,
    /// The time between two questions of one client; none to ask as fast as it is answered.
    pub every: Duration,
}

impl Plan {
    /// As fast as it goes for so long.
    pub fn lasting(lasts: Duration) -> Plan {
        Plan { lasts, each: usize::MAX, every: Duration::ZERO }
    }

    /// So many from each client, within a minute.
    pub fn counting(each: usize) -> Plan {
        Plan { each, ..Plan::lasting(Duration::from_secs(60)) }
    }
}

/// Connected clients; they stay connected between runs.
pub struct Clients(Vec<Connection>);

impl Clients {
    /// Connects so many.
    pub async fn connect(address: SocketAddr, count: usize) -> Result<Clients> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(Connection::open(address).await.with_context(|| format!("connecting to {address}"))?);
        }
        Ok(Clients(clients))
    }

    /// Asks until the plan ends; the first wrong answer fails the run.
    pub async fn run(&mut self, question: &Arc<Question>, plan: Plan) -> Result<Report> {
        let (began, mut asking) = (Instant::now(), JoinSet::new());
        for client in self.0.drain(..) {
            asking.spawn(ask(client, Arc::clone(question), plan, began));
        }
        let mut report = Report::default();
        while let Some(done) = asking.join_next().await {
            let (client, times) = done.expect("no client panics")?;
            self.0.push(client);
            report.add(times);
        }
        Ok(report.over(began.elapsed()))
    }
}

async fn ask(
    mut client: Connection,
    question: Arc<Question>,
    plan: Plan,
    began: Instant,
) -> Result<(Connection, Vec<Duration>)> {
    let (mut times, mut answer) = (Vec::new(), Vec::new());
    // Clients begin at a phase of their own, or all would ask in the same millisecond.
    let mut due = began + plan.every.mul_f64(fastrand::f64());
    while began.elapsed() < plan.lasts && times.len() < plan.each {
        if !plan.every.is_zero() {
            tokio::time::sleep_until(due.into()).await;
            due += plan.every;
        }
        let asked = Instant::now();
        let head = client.ask(&question.request, &mut answer).await?;
        times.push(asked.elapsed());
        check(head, &answer, &question)?;
    }
    Ok((client, times))
}

fn check(head: Head, answer: &[u8], question: &Question) -> Result<()> {
    let told = || String::from_utf8_lossy(&answer[answer.len().saturating_sub(400)..]).into_owned();
    ensure!(head.status == 200, "status {}: {}", head.status, told());
    let (got, wanted) = (answer.len(), question.answer.len());
    if !question.is_exact {
        let is_whole = answer.trim_ascii_end().ends_with(b"data: [DONE]") && 4 * events(answer) > 3 * question.events();
        ensure!(question.events() == 0 || is_whole, "{} events, then {}", events(answer), told());
        return Ok(());
    }
    ensure!(
        answer == question.answer,
        "an answer of {got} bytes differs from the {wanted} expected, ending in {}",
        told()
    );
    Ok(())
}

fn events(answer: &[u8]) -> usize {
    memchr::memmem::find_iter(answer, b"data: ").count()
}

//! A client that asks one question after the other, and leaves now and then.
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use llm_tests::load::Connection;

use super::PATIENCE;
use super::counts::{Counts, End};
use super::question::Question;

pub(crate) struct Client {
    house: SocketAddr,
    name: String,
    dice: Rng,
    connection: Option<Connection>,
    counts: Counts,
}

impl Client {
    /// The client of this number in the run of this seed.
    pub(crate) fn new(house: SocketAddr, seed: u64, number: u64) -> Client {
        let dice = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let name = format!("client {number} of LLM_SOAK_SEED={seed}");
        Client { house, name, dice, connection: None, counts: Counts::default() }
    }

    /// Asks until then.
    ///
    /// # Panics
    /// If a question hangs, or is told what it may not be.
    pub(crate) async fn run(mut self, until: Instant) -> Counts {
        while Instant::now() < until {
            let question = Question::throw(&mut self.dice);
            self.counts.asks();
            let end = self.ask(&question).await;
            self.counts.ends(question.about(), end);
        }
        self.counts
    }

    async fn ask(&mut self, question: &Question) -> End {
        let leaves = (self.dice.u8(..100) < 12).then(|| Duration::from_micros(self.dice.u64(..60_000)));
        if self.dice.u8(..100) < 10 {
            self.connection = None; // clients come and go between questions too
        }
        let (patience, mut body) = (leaves.unwrap_or(PATIENCE), Vec::new());
        match tokio::time::timeout(patience, self.exchange(question, &mut body)).await {
            Ok(Ok(status)) => question.end(status, &body).unwrap_or_else(|why| self.fails(question, &body, why)),
            Ok(Err(error)) => self.fails(question, &body, &format!("{error:#}")),
            Err(_) if leaves.is_some() => {
                self.connection = None;
                End::Left
            }
            Err(_) => self.fails(question, &body, "it hangs"),
        }
    }

    async fn exchange(&mut self, question: &Question, body: &mut Vec<u8>) -> Result<u16> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(self.house).await?),
        };
        connection.send(&question.request).await?;
        let head = connection.head().await?;
        connection.body(head, body).await?;
        Ok(head.status)
    }

    fn fails(&self, question: &Question, body: &[u8], why: &str) -> ! {
        let [asked, told] = [&question.request, body].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        panic!("{}: {why}\nasked ({:?}): {asked}\ntold: {told}", self.name, question.kind)
    }
}

//! Downloads one large file over HTTP: goes on where it broke off and believes only the hash.
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use llm_core::{Error, Kind, Result};
use reqwest::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};

use super::part::Part;
use super::web;
use super::{Stage, Tell};

/// A file on the web and what is known of it.
#[derive(Debug, Clone)]
pub struct Download {
    /// Where it is.
    pub url: Url,
    /// What it must hash to, in lower-case hexadecimal, where its publisher says.
    pub sha256: Option<String>,
    /// How many attempts in a row may bring nothing before we give up.
    pub attempts: u32,
    /// The pause after the first of them; it doubles each time.
    pub pause: Duration,
}

// A server that hands out a few bytes a connection is a fault, and not ours to bear.
const MOST_ATTEMPTS: u32 = 1_000;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How an attempt ended that did not bring the file.
pub(super) enum Broken {
    /// Another may.
    Retry(Error),
    /// No other will.
    Final(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        Broken::Final(error)
    }
}

impl Download {
    /// A download with five attempts, half a second apart at first.
    ///
    /// # Errors
    /// `Invalid` for what is not an http or https address.
    pub fn new(url: &str) -> Result<Download> {
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url =
            url.ok_or_else(|| Error::invalid("a download needs an address that begins with https:// or http://"))?;
        Ok(Download { url, sha256: None, attempts: 5, pause: Duration::from_millis(500) })
    }

    /// The file's name, as the last part of the address gives it; none if it is no plain one.
    pub fn file_name(&self) -> Option<&str> {
        let name = self.url.path_segments()?.next_back()?;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | '+');
        (!name.is_empty() && !name.starts_with('.') && name.chars().all(plain)).then_some(name)
    }

    /// Brings the file to `to`, where it appears complete or not at all.
    ///
    /// Dropping the future stops it; what has come stays in `to` with `.part` behind, and the next run goes on there if
    /// the server still has the same file.
    ///
    /// # Errors
    /// One sentence with the remedy. A file with the wrong hash is thrown away.
    pub async fn run(&self, client: &Client, to: &Path, tell: Tell<'_>) -> Result<()> {
        let mut part = Part::open(to, self.url.as_str()).await?;
        self.complete(client, &mut part, tell).await?;
        if let Some(wanted) = &self.sha256 {
            self.is_right(&mut part, wanted, tell).await?;
        }
        part.keep(to).await
    }

    async fn complete(&self, client: &Client, part: &mut Part, tell: Tell<'_>) -> Result<()> {
        let mut fruitless = 0;
        for _ in 0..MOST_ATTEMPTS {
            let before = part.done();
            let error = match self.attempt(client, part, tell).await {
                Ok(()) => return Ok(()),
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Retry(error)) => error,
            };
            fruitless = if part.done() > before { 0 } else { fruitless + 1 };
            if fruitless >= self.attempts {
                return Err(error);
            }
            tokio::time::sleep(self.pause_before(fruitless, &error)).await;
        }
        Err(Error::new(Kind::Upstream, format!("{} broke off {MOST_ATTEMPTS} times: try another source", self.host())))
    }

    fn pause_before(&self, fruitless: u32, error: &Error) -> Duration {
        let doubled = self.pause.saturating_mul(1 << fruitless.saturating_sub(1).min(10));
        error.get_retry_after().unwrap_or(doubled).min(LONGEST_PAUSE)
    }

    async fn attempt(&self, client: &Client, part: &mut Part, tell: Tell<'_>) -> Result<(), Broken> {
        let mut request = client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some((range, validator)) = part.resumption() {
            request = request.header(RANGE, range).header(IF_RANGE, validator);
        }
        let answer = request.send().await.map_err(|error| web::unreachable(self.host(), error))?;
        match answer.status() {
            StatusCode::OK => part.begin(&answer).await?,
            StatusCode::PARTIAL_CONTENT if part.goes_on_with(&answer) => (),
            // What we have is no part of what they have now.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => return Err(self.start_over(part).await),
            _ => return Err(web::refused(self.host(), &answer)),
        }
        self.receive(answer, part, tell).await
    }

    async fn receive(&self, answer: Response, part: &mut Part, tell: Tell<'_>) -> Result<(), Broken> {
        let mut bytes = answer.bytes_stream();
        let mut ended = Ok(());
        while let Some(chunk) = bytes.next().await {
            match chunk {
                Ok(chunk) => part.append(&chunk).await?,
                Err(error) => ended = Err(error),
            }
            tell(Stage::Downloading.at(part.done(), part.total().unwrap_or(0)));
        }
        part.flush().await?;
        match part.total() {
            Some(total) if part.done() == total => Ok(()),
            Some(total) if part.done() > total => Err(self.start_over(part).await),
            None if ended.is_ok() => Ok(()),
            _ => Err(self.broke_off(part)),
        }
    }

    fn broke_off(&self, part: &Part) -> Broken {
        let (host, done) = (self.host(), part.done());
        Broken::Retry(Error::new(Kind::Upstream, format!("{host} broke off at byte {done}: try again")))
    }

    async fn start_over(&self, part: &mut Part) -> Broken {
        match part.forget().await {
            Ok(()) => Broken::Retry(Error::new(
                Kind::Upstream,
                format!("{} answers for another file: try again", self.host()),
            )),
            Err(error) => Broken::Final(error),
        }
    }

    async fn is_right(&self, part: &mut Part, wanted: &str, tell: Tell<'_>) -> Result<()> {
        let hash = part.hash(tell).await?;
        if hash == wanted.to_ascii_lowercase() {
            return Ok(());
        }
        part.forget().await?;
        let message =
            format!("{} sent a file with sha256 {hash}, not {wanted}: try again or take another source", self.host());
        Err(Error::new(Kind::Upstream, message))
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

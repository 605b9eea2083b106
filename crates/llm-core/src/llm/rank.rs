//! Which document answers best, and how alike texts are.
use super::Llm;
use crate::call::*;
use crate::error::{Error, Kind, Result};

impl Llm {
    /// Orders documents by how well they answer a query, best first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// let best = llm.rerank("What do cats eat?", ["Rust is a language.", "Cats eat mice."]).await?;
    /// println!("document {} answers best", best.results[0].index);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering; `Unsupported`, naming who can, if the default model cannot.
    pub async fn rerank<T: Into<String>>(
        &self,
        query: impl Into<String>,
        documents: impl IntoIterator<Item = T>,
    ) -> Result<Ranking> {
        self.rank(RerankRequest::new(query, documents)).await
    }

    /// The same for a request with a model, a number of results and further fields.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// use llm_core::RerankRequest;
    /// let request = RerankRequest::new("what cats eat", ["Rust is a language", "what cats eat is mice"]).top_n(1);
    /// assert_eq!(llm.rank(request).await?.results[0].index, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Llm::rerank`]; `Upstream` if it names a document that was not sent.
    pub async fn rank(&self, request: RerankRequest) -> Result<Ranking> {
        let documents = request.documents.len();
        let mut ranking = self.one(request, |f| if let Frame::Ranking(r) = f { Some(r) } else { None }).await?;
        if let Some(stray) = ranking.results.iter().find(|r| r.index >= documents) {
            let message = format!("{documents} documents were sent and number {} came back", stray.index);
            return Err(Error::new(Kind::Upstream, message));
        }
        // They are promised best first, and do not always come so.
        ranking.results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
        Ok(ranking)
    }

    /// How alike texts are: one query against every document, or two lists of one length pair by pair.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// use llm_core::ScoreRequest;
    /// let answer = llm.score(ScoreRequest::new(["cats eat"], ["cats eat", "dogs bark"])).await?;
    /// assert!(answer.scores[0] > answer.scores[1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering; `Upstream` if the scores are not as many as the documents.
    pub async fn score(&self, request: ScoreRequest) -> Result<Scores> {
        let asked = request.documents.len();
        let scores = self.one(request, |f| if let Frame::Scores(s) = f { Some(s) } else { None }).await?;
        match scores.scores.len() {
            got if got == asked => Ok(scores),
            got => Err(Error::new(Kind::Upstream, format!("{asked} documents were sent and {got} scores came back"))),
        }
    }
}

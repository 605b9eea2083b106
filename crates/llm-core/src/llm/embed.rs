//! Vectors of texts, in batches with their order kept, and of images.
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Llm;
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// How a long list of texts is divided: one request for all would fill a server's memory and fail as a whole, one for
/// each would cost a round trip a text.
///
/// ```
/// let gentle = llm_core::Batches { size: 8, ..llm_core::Batches::default() };
/// assert_eq!(gentle.at_once, 8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Texts in one request; at least 1.
    pub size: usize,
    /// Requests under way at once; at least 1.
    pub at_once: usize,
}

impl Default for Batches {
    fn default() -> Self {
        Batches { size: 32, at_once: 8 } // TEI's own limits are 32 and more; vLLM's batches are as large
    }
}

impl Llm {
    /// Turns texts into vectors: one each, in order. A long list goes in [`Batches`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// let answer = llm.embed(["cats", "dogs"]).await?;
    /// assert_eq!(answer.vectors.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering, with the texts that failed (`input[32..64]`) if there were several batches; `Upstream`
    /// if the vectors are not as many as the texts, or not all of one length; `Invalid` for `messages` beside `input`, and
    /// for an image among the texts.
    pub async fn embed(&self, request: impl Into<EmbedRequest>) -> Result<Embeddings> {
        self.embed_in(request, Batches::default()).await
    }

    /// The same with batches of another size. The first that fails cancels the others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// use llm_core::{Batches, EmbedRequest};
    /// let texts = EmbedRequest::new((0..100).map(|i| format!("text {i}")));
    /// let answer = llm.embed_in(texts, Batches { size: 16, at_once: 2 }).await?;
    /// assert_eq!(answer.vectors.len(), 100);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Llm::embed`].
    pub async fn embed_in(&self, request: impl Into<EmbedRequest>, batches: Batches) -> Result<Embeddings> {
        let request = request.into();
        makes_sense(&request)?;
        let size = batches.size.max(1);
        if request.input.len() <= size {
            return self.embed_once(request).await;
        }
        let parts = request.input.chunks(size).enumerate().map(|(i, texts)| {
            let part = EmbedRequest { input: texts.to_vec(), ..request.clone_without_input() };
            let place = format!("input[{}..{}]", i * size, i * size + texts.len());
            async move { self.embed_once(part).await.map_err(|e| e.at(place)) }
        });
        // Boxed, so that the future is one that can be sent whatever the texts' lifetime.
        let parts: Vec<BoxFuture<'_, _>> = parts.map(|part| Box::pin(part) as BoxFuture<'_, _>).collect();
        let answers: Vec<Embeddings> = stream::iter(parts).buffered(batches.at_once.max(1)).try_collect().await?;
        joined(answers)
    }

    /// Turns an image into a vector. The model's vectors of texts lie in the same space, so that they can be compared.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// let vector = llm.embed_image(llm_core::Image::url("data:image/png;base64,iVBORw0KGgo=")).await?;
    /// println!("{} dimensions", vector.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering; `Invalid` from a model that reads texts only.
    pub async fn embed_image(&self, image: Image) -> Result<Vec<f32>> {
        let answer = self.embed_once(EmbedRequest::image(image)).await?;
        answer.vectors.into_iter().next().ok_or_else(|| count(1, 0))
    }

    async fn embed_once(&self, request: EmbedRequest) -> Result<Embeddings> {
        let (asked, dimensions) = (request.expected(), request.dimensions);
        let answer = self.one(request, |f| if let Frame::Vectors(v) = f { Some(v) } else { None }).await?;
        match answer.vectors.len() {
            got if got == asked => of_length(joined(vec![answer])?, dimensions),
            got => Err(count(asked, got)),
        }
    }
}

/// What a server would answer with a vector of something else.
fn makes_sense(request: &EmbedRequest) -> Result<()> {
    if !request.input.is_empty() && !request.messages.is_empty() {
        let message = "`messages` stand in place of `input`: send one request for each";
        return Err(Error::invalid(message).param("messages"));
    }
    let is_image = |text: &String| text.trim_start().starts_with("data:image/");
    match request.input.iter().position(is_image) {
        None => Ok(()),
        Some(i) => {
            let message = format!("`input[{i}]` is an image, and would be read as a text: use `embed_image`");
            Err(Error::invalid(message).param("input"))
        }
    }
}

impl EmbedRequest {
    fn clone_without_input(&self) -> EmbedRequest {
        let EmbedRequest { model, dimensions, base64, extra, .. } = self;
        let (model, extra) = (model.clone(), extra.clone());
        EmbedRequest { model, extra, dimensions: *dimensions, base64: *base64, ..EmbedRequest::default() }
    }
}

/// Some hosts do not read `dimensions`, and say nothing of it.
fn of_length(answer: Embeddings, asked: Option<u32>) -> Result<Embeddings> {
    match (asked, answer.vectors.first().map(Vec::len)) {
        (Some(asked), Some(got)) if got != asked as usize => {
            let message = format!("{asked} dimensions were asked for, and the vectors have {got}");
            Err(Error::new(Kind::Upstream, message).code("wrong_dimensions").param("dimensions"))
        }
        _ => Ok(answer),
    }
}

fn count(asked: usize, got: usize) -> Error {
    Error::new(Kind::Upstream, format!("{asked} texts were sent and {got} vectors came back"))
}

fn joined(answers: Vec<Embeddings>) -> Result<Embeddings> {
    let (mut all, several) = (Embeddings::default(), answers.len() > 1);
    for mut answer in answers {
        // Further ones tell the same, but for ids and prices.
        if several {
            answer.extra.remove("usage");
        }
        if all.extra.is_empty() {
            all.extra = answer.extra;
        }
        all.vectors.extend(answer.vectors);
        if let Some(cost) = answer.usage {
            all.usage.get_or_insert_default().add(cost);
        }
        for warning in answer.warnings {
            if !all.warnings.contains(&warning) {
                all.warnings.push(warning);
            }
        }
    }
    let mut lengths = all.vectors.iter().map(Vec::len);
    let first = lengths.next().unwrap_or_default();
    match lengths.find(|length| *length != first) {
        None => Ok(all),
        Some(other) => {
            let message = format!("the vectors have {first} and {other} dimensions: two models answer to one name");
            Err(Error::new(Kind::Upstream, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;

    async fn refusal(request: EmbedRequest) -> Error {
        Llm::of(Fake::says("")).unwrap().embed(request).await.unwrap_err()
    }

    #[tokio::test]
    async fn who_answered_instead_is_told_once_however_many_parts_there_are() {
        let config = "[models.a]\nprovider = 'fake'\nfailures = 9\nfallback = ['b']\nretry = { max_retries = 0 }\n[models.b]\nprovider = 'fake'";
        let llm = Llm::new(&crate::Config::from_toml(config).unwrap()).unwrap();
        let texts = EmbedRequest { model: "a".into(), ..EmbedRequest::new((0..64).map(|i| i.to_string())) };
        assert_eq!(llm.embed(texts).await.unwrap().warnings, ["b answered instead of a"]);
    }

    #[tokio::test]
    async fn messages_beside_texts_are_refused_however_many_texts_there_are() {
        for count in [1, 100] {
            let texts = (0..count).map(|i| i.to_string());
            let both = EmbedRequest { messages: vec![Message::user("a red image")], ..EmbedRequest::new(texts) };
            let error = refusal(both).await;
            assert_eq!((error.kind(), error.get_param()), (Kind::Invalid, Some("messages")), "{error}");
        }
    }

    #[tokio::test]
    async fn an_image_among_the_texts_is_told_where_it_belongs() {
        let error = refusal(EmbedRequest::new(["a cat", " data:image/png;base64,iVBORw0KGgo="])).await;
        assert_eq!((error.kind(), error.get_param()), (Kind::Invalid, Some("input")));
        assert_eq!(error.message(), "`input[1]` is an image, and would be read as a text: use `embed_image`");
        let about = Llm::of(Fake::says("")).unwrap().embed("what does data:image/png mean?").await;
        assert_eq!(about.unwrap().vectors.len(), 1);
    }
}

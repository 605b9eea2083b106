//! Text Embeddings Inference's own ranking: `{"query","texts"}` -> `[{"index","score"}]`. Its vectors come in OpenAI's shape.
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fields::Fields;
use super::openai::errors;
use super::{Dialect, Reader, Writer};
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// The shape of `/rerank`.
///
/// ```
/// use llm_core::{Call, Delivery, RerankRequest, dialect::{Dialect, tei::Tei}};
/// let body = Tei.write(&Call::new(RerankRequest::new("cats?", ["Mice."]), Delivery::Whole))?;
/// assert_eq!(body, r#"{"query":"cats?","texts":["Mice."],"return_text":false}"#);
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Tei;

impl Dialect for Tei {
    fn name(&self) -> &'static str {
        "tei"
    }

    fn paths(&self) -> &'static [(Operation, &'static str)] {
        &[(Operation::Rerank, "/rerank")]
    }

    /// More clients speak Jina's shape, which has the same path.
    fn doors(&self) -> &'static [(Operation, &'static str)] {
        &[]
    }

    fn bracket(&self) -> u8 {
        b'['
    }

    fn read(&self, _: Operation, body: &[u8], _: &mut Vec<String>) -> Result<Request> {
        let mut fields = Fields::of(body)?;
        let texts: Vec<String> = fields.need("texts")?;
        let mut request = RerankRequest::new(fields.need::<String>("query")?, texts);
        if let Some(returns) = fields.take::<bool>("return_text")? {
            request.extra.insert("return_documents".into(), returns.into());
        }
        Ok(request.into())
    }

    fn write(&self, call: &Call) -> Result<Bytes> {
        let Request::Rerank(asked) = call.request()? else {
            return Err(Error::new(Kind::Unsupported, format!("TEI cannot {} in its own shape", call.operation)));
        };
        let texts = asked.documents.iter().map(text).collect::<Result<Vec<_>>>()?;
        let returns = asked.extra.get("return_documents") == Some(&Value::Bool(true));
        let mut body = json!({"query": asked.query, "texts": texts, "return_text": returns});
        for name in ["raw_scores", "truncate", "truncation_direction"] {
            if let Some(value) = asked.extra.get(name) {
                body[name] = value.clone();
            }
        }
        Ok(body.to_string().into())
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Ranks)
    }

    fn writer(&self, _: &Call) -> Box<dyn Writer> {
        Box::new(Written { is_written: false })
    }

    fn glance(&self, body: &[u8]) -> Glance {
        Glance { is_finished: body.trim_ascii_start().starts_with(b"["), ..Glance::default() }
    }

    /// 424 is a model that failed, which is none of the caller's mistakes.
    fn refusal(&self, status: u16, body: &[u8]) -> Error {
        let error = errors::refusal(status, body);
        if status == 424 { error.as_kind(Kind::Upstream) } else { error }
    }

    fn error(&self, error: &Error) -> Bytes {
        json!({"error": error.to_string(), "error_type": error.kind().name()}).to_string().into()
    }

    fn failure(&self, error: &Error) -> Bytes {
        self.error(error)
    }
}

/// It takes texts alone.
fn text(document: &Value) -> Result<&str> {
    let text = document.as_str().or_else(|| document.get("text")?.as_str());
    text.ok_or_else(|| Error::new(Kind::Unsupported, "TEI ranks texts alone").param("documents"))
}

#[derive(Serialize, Deserialize)]
struct Rank {
    index: usize,
    score: f32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

struct Ranks;

impl Reader for Ranks {
    fn read(&mut self, frame: &[u8], nouns: &mut Vec<Frame>) -> Result<()> {
        let broken = |e| invalid_answer("the upstream sent a ranking that is none").because(e);
        let ranks: Vec<Rank> = serde_json::from_slice(frame).map_err(broken)?;
        let place = |rank: Rank| {
            let document = rank.text.map(|text| ("document".to_owned(), json!({"text": text})));
            Ranked { index: rank.index, relevance_score: rank.score, extra: document.into_iter().collect() }
        };
        let mut results: Vec<Ranked> = ranks.into_iter().map(place).collect();
        results.sort_by(|one, other| other.relevance_score.total_cmp(&one.relevance_score));
        nouns.push(Frame::Ranking(Ranking { results, usage: None, ..Ranking::default() }));
        Ok(())
    }
}

struct Written {
    is_written: bool,
}

impl Writer for Written {
    fn write(&mut self, frame: Frame, out: &mut BytesMut) -> Result<()> {
        let Frame::Ranking(ranking) = frame else {
            return Err(Error::new(Kind::Internal, "a frame that does not belong here"));
        };
        let text = |place: &Ranked| Some(place.extra.get("document")?.get("text")?.as_str()?.to_owned());
        let rank = |place: &Ranked| Rank { index: place.index, score: place.relevance_score, text: text(place) };
        let ranks: Vec<Rank> = ranking.results.iter().map(rank).collect();
        out.put_slice(json!(ranks).to_string().as_bytes());
        self.is_written = true;
        Ok(())
    }

    fn end(&mut self, _: &mut BytesMut) -> Result<()> {
        if self.is_written { Ok(()) } else { Err(truncated()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_is_asked_for_in_its_words_and_comes_back_in_ours() {
        let mut asked = RerankRequest::new("What do cats eat?", ["Rust.", "Mice."]);
        asked.documents.push(json!({"text": "Fish."}));
        asked.extra.insert("return_documents".into(), true.into());
        let body: Value = serde_json::from_slice(&Tei.write(&Call::new(asked, Delivery::Whole)).unwrap()).unwrap();
        let texts = ["Rust.", "Mice.", "Fish."];
        assert_eq!(body, json!({"query": "What do cats eat?", "texts": texts, "return_text": true}));
        let mut nouns = Vec::new();
        // As its own guide has it, but for the order, which it does not promise.
        let answer = br#"[{"index":0,"score":0.01},{"index":1,"score":0.99,"text":"Mice."}]"#;
        Tei.reader().read(answer, &mut nouns).unwrap();
        let Some(Frame::Ranking(ranking)) = nouns.pop() else { panic!("no ranking") };
        assert_eq!((ranking.results[0].index, ranking.results[1].index), (1, 0));
        assert_eq!(ranking.results[0].extra["document"]["text"], "Mice.");
    }

    #[test]
    fn what_is_no_text_is_refused_and_a_model_that_failed_is_no_mistake_of_the_callers() {
        let mut asked = RerankRequest::new("?", [""; 0]);
        asked.documents.push(json!({"image": "x"}));
        let error = Tei.write(&Call::new(asked, Delivery::Whole)).unwrap_err();
        assert_eq!((error.kind(), error.get_param()), (Kind::Unsupported, Some("documents")));
        let body = br#"{"error":"backend error","error_type":"Backend"}"#;
        let failed = Tei.refusal(424, body);
        assert_eq!((failed.kind(), failed.message()), (Kind::Upstream, "backend error"));
        assert_eq!(Tei.refusal(429, br#"{"error":"Model is overloaded"}"#).kind(), Kind::RateLimited);
    }
}

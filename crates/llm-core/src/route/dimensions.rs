//! Holds a model to the length of its vectors: those of another length would spoil an index without a word.
use std::sync::Arc;

use crate::call::*;
use crate::error::{Error, Kind, Result};

/// A model whose vectors all have so many dimensions.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::Arc;
/// use llm_core::{Call, Delivery, EmbedRequest, Provider, provider::fake::Fake, route::Dimensions};
/// let call = Call::new(EmbedRequest::new(["cats"]), Delivery::Whole);
/// assert!(Dimensions::new(Arc::new(Fake::says("")), 8).call(&call).await.is_ok());
/// assert!(Dimensions::new(Arc::new(Fake::says("")), 768).call(&call).await.is_err());
/// # Ok(())
/// # }
/// ```
pub struct Dimensions {
    inner: Arc<dyn Provider>,
    dimensions: usize,
}

impl Dimensions {
    /// Holds `inner` to vectors of this length.
    pub fn new(inner: Arc<dyn Provider>, dimensions: u32) -> Dimensions {
        Dimensions { inner, dimensions: dimensions as usize }
    }

    fn check(&self, frame: &Frame) -> Result<()> {
        let Frame::Vectors(answer) = frame else { return Ok(()) };
        match answer.vectors.iter().map(Vec::len).find(|length| *length != self.dimensions) {
            None => Ok(()),
            Some(other) => {
                let message = format!("the vectors have {other} dimensions, and {} are configured", self.dimensions);
                Err(Error::new(Kind::Upstream, message).code("wrong_dimensions").for_good())
            }
        }
    }
}

impl Provider for Dimensions {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        if call.operation != Operation::Embed {
            return self.inner.call(call);
        }
        Box::pin(async move {
            if let Some(asked) = call.dimensions().filter(|asked| *asked as usize != self.dimensions) {
                let message = format!("`dimensions` is {asked}, and this model is held to {}", self.dimensions);
                return Err(Error::invalid(message).param("dimensions"));
            }
            self.inner.call(call).await?.checked(|frame| self.check(frame)).await
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;

    #[tokio::test]
    async fn vectors_of_another_length_are_an_error_and_chats_pass() {
        let of = |dimensions| Dimensions::new(Arc::new(Fake::says("hi")), dimensions);
        let embed = Call::new(EmbedRequest::new(["a"]), Delivery::Whole);
        let Frame::Vectors(made) = Fake::says("").call(&embed).await.unwrap().single(Some).await.unwrap() else {
            panic!()
        };
        let length = made.vectors[0].len() as u32;
        assert!(of(length).call(&embed).await.is_ok());
        let error = of(length + 1).call(&embed).await.unwrap_err();
        assert_eq!(error.message(), format!("the vectors have {length} dimensions, and {} are configured", length + 1));
        let shorter = Call::new(EmbedRequest::new(["a"]).dimensions(2), Delivery::Whole);
        let error = of(length).call(&shorter).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.get_param()),
            (Kind::Invalid, Some("dimensions")),
            "it is not the host's mistake"
        );
        assert!(of(1).call(&Call::new(ChatRequest::new("?"), Delivery::Whole)).await.is_ok());
    }
}

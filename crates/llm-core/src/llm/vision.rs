//! What a picture shows, and what is written in it: questions to a chat model that sees.
use super::Llm;
use crate::call::*;
use crate::error::{Error, Kind, Result};

// Asked of a vision model by [`Llm::caption`].
const CAPTION: &str = "Describe the image.";
// Asked of a vision model by [`Llm::ocr`].
const OCR: &str = "Read the text.";

impl Llm {
    /// What an image shows, in a sentence or two.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # use llm_core::{Config, Llm};
    /// # let llm = Llm::new(&Config::from_toml("[models.a]\nprovider = 'fake'\nsays = 'a cat'\nvision = true")?)?;
    /// # let photo = b"\x89PNG\r\n\x1a\n..";
    /// use llm_core::Image;
    /// let photo = Image::from_bytes(photo)?; // or `Image::from_path("holiday.jpg")?`
    /// println!("it shows {}", llm.caption(photo.clone()).await?);
    /// println!("it says {}", llm.ocr(photo.clone()).await?);
    /// println!("there are {}", llm.look(photo, "How many people are there?").await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering; `Unsupported`, with the model that was shown it as far as it has a name and how to name
    /// one that sees, if it cannot see.
    pub async fn caption(&self, image: Image) -> Result<String> {
        self.look(image, CAPTION).await
    }

    /// The text that stands in an image, word for word.
    ///
    /// # Errors
    /// As [`Llm::caption`].
    pub async fn ocr(&self, image: Image) -> Result<String> {
        self.look(image, OCR).await
    }

    /// Answers a question about an image.
    ///
    /// # Errors
    /// As [`Llm::caption`].
    pub async fn look(&self, image: Image, question: &str) -> Result<String> {
        let model = self.gateway.router().vision.clone().unwrap_or_default();
        let request = ChatRequest::new(question).image(image).temperature(0.0).model(&model);
        let answer = self.chat(request).await.map_err(|error| told_who_can(error, &model))?;
        Ok(answer.text.trim().to_owned())
    }

    /// Whether the configuration has a model that sees: `VISION_PROVIDER`, `VLLM_VISION_MODEL`, `vision_model`, or
    /// `vision = true` at a model. Without any of them the default model is shown images, and may be one that sees.
    ///
    /// ```
    /// # fn main() -> llm_core::Result<()> {
    /// use llm_core::{Config, Llm};
    /// let blind = Llm::new(&Config::from_toml("[models.a]\nprovider = 'fake'")?)?;
    /// let seeing = Llm::new(&Config::from_toml("[models.a]\nprovider = 'fake'\nvision = true")?)?;
    /// assert_eq!((blind.supports_vision(), seeing.supports_vision()), (false, true));
    /// # Ok(())
    /// # }
    /// ```
    pub fn supports_vision(&self) -> bool {
        self.gateway.router().vision.is_some()
    }
}

/// Hosts refuse images in their own words; the caller wants to know what to do.
fn told_who_can(error: Error, asked: &str) -> Error {
    let cannot = ["not a multimodal model", "image input is not supported", "reads text only"];
    if !cannot.iter().any(|words| error.message().contains(words)) {
        return error;
    }
    // Whoever has a name here was configured as the one that sees.
    let who = if asked.is_empty() { "this model" } else { asked };
    let message = format!("{who} reads text only; name one that sees as `vision_model`, or with VISION_PROVIDER");
    Error::new(Kind::Unsupported, message).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_was_to_see_and_does_not_is_named() {
        let blind = || Error::invalid("tiny is not a multimodal model");
        assert!(told_who_can(blind(), "").message().starts_with("this model reads text only; name one"));
        assert!(told_who_can(blind(), "tiny-vlm").message().starts_with("tiny-vlm reads text only; name one"));
        assert_eq!(told_who_can(Error::invalid("too large"), "").kind(), Kind::Invalid);
    }
}

//! What a picture shows, and what is written in it: questions to a chat model that sees.
use super::Llm;
use crate::call::*;
use crate::error::Result;

// Asked of a vision model by [`Llm::caption`].
const CAPTION: &str = "Describe the image.";
// Asked of a vision model by [`Llm::ocr`].
const OCR: &str = "Read the text.";

impl Llm {
    /// What an image shows, in a sentence or two.
    ///
    /// ```
    /// # async fn f(llm: llm_core::Llm) -> llm_core::Result<()> {
    /// println!("{}", llm.caption(llm_core::Image::from_path("holiday.jpg")?).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering; `Unsupported`, naming who can, if the model cannot see.
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
        let request = ChatRequest::new(question).image(image).temperature(0.0);
        Ok(self.chat(request).await?.text.trim().to_owned())
    }
}

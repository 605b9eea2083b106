//! Images, as models take them: an address, or the bytes themselves as a data URL.
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Kind, Result};

/// An image to look at.
///
/// ```
/// use llm_core::{Image, Kind};
/// let image = Image::url("https://example.org/cat.png").detail("low");
/// assert_eq!(image.detail.as_deref(), Some("low"));
/// assert_eq!(Image::from_path("no/such/file.png").unwrap_err().kind(), Kind::NotFound);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// An http(s) address, which the host fetches, or a data URL.
    pub url: String,
    /// How closely to look, for hosts that know it: `low`, `high`, `auto`.
    pub detail: Option<String>,
}

/// The first bytes of each format that vision models read.
const FORMATS: [(&str, &[u8]); 5] = [
    ("image/png", b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", b"\xff\xd8\xff"),
    ("image/gif", b"GIF8"),
    ("image/bmp", b"BM"),
    ("image/tiff", b"II*\0"),
];

impl Image {
    /// An image that the host fetches by itself, or a data URL.
    pub fn url(url: impl Into<String>) -> Image {
        Image { url: url.into(), detail: None }
    }

    /// An image's file as bytes: PNG, JPEG, GIF, WebP, BMP or TIFF.
    ///
    /// ```
    /// let image = llm_core::Image::from_bytes(b"\x89PNG\r\n\x1a\n..").unwrap();
    /// assert!(image.url.starts_with("data:image/png;base64,"));
    /// assert!(llm_core::Image::from_bytes(b"hello").is_err());
    /// ```
    ///
    /// # Errors
    /// `Invalid` if it is none of these.
    pub fn from_bytes(bytes: &[u8]) -> Result<Image> {
        let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
        let known = FORMATS.iter().find(|(_, magic)| bytes.starts_with(magic)).map(|(mime, _)| *mime);
        let mime = if is_webp { Some("image/webp") } else { known };
        let mime = mime.ok_or_else(|| Error::invalid("this is no image: PNG, JPEG, GIF, WebP, BMP and TIFF are"))?;
        Ok(Image::url(format!("data:{mime};base64,{}", STANDARD.encode(bytes))))
    }

    /// The same in base64 without a data URL around it, as Ollama's clients send it.
    ///
    /// ```
    /// let image = llm_core::Image::from_base64("iVBORw0KGgo=").unwrap();
    /// assert_eq!(image.url, "data:image/png;base64,iVBORw0KGgo=");
    /// assert!(llm_core::Image::from_base64("hello").is_err());
    /// ```
    ///
    /// # Errors
    /// `Invalid` if it is no base64; as [`Image::from_bytes`].
    pub fn from_base64(text: &str) -> Result<Image> {
        let bytes = STANDARD.decode(text.trim());
        Image::from_bytes(&bytes.map_err(|e| Error::invalid("the image is no base64").because(e))?)
    }

    /// Reads an image's file.
    ///
    /// # Errors
    /// `NotFound` if it cannot be read; as [`Image::from_bytes`].
    pub fn from_path(path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let unreadable = |e| Error::new(Kind::NotFound, format!("cannot read {}", path.display())).because(e);
        Image::from_bytes(&std::fs::read(path).map_err(unreadable)?).map_err(|e| e.at(path.display()))
    }

    /// How closely to look: `low`, `high`, `auto`.
    pub fn detail(mut self, detail: impl Into<String>) -> Image {
        self.detail = Some(detail.into());
        self
    }
}

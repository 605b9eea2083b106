//! Doors to other crates' worlds, each behind a feature of its name.
#[cfg(feature = "async-openai")]
mod async_openai;
#[cfg(feature = "tower")]
mod tower;

#[cfg(feature = "tower")]
pub use tower::Streaming;

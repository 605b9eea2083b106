//! A key that no log, error or debug print shows.
use serde::{Deserialize, Serialize, Serializer};

/// A secret text.
///
/// ```
/// use llm_core::secret::Secret;
/// let key = Secret::new("sk-1");
/// assert_eq!((format!("{key:?}").as_str(), key.reveal()), ("***", "sk-1"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A configuration may be shown; what stands in its secrets may not.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "(not set)" } else { "(set)" })
    }
}

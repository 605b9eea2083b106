//! What went wrong, as the caller can act on it: one type for every floor.
use std::fmt;
use std::time::Duration;

/// A result whose error is [`Error`].
///
/// ```
/// fn port(text: &str) -> llm_core::Result<u16> {
///     text.parse().map_err(|e| llm_core::Error::config("must be a number").at("port").because(e))
/// }
/// assert_eq!(port("x").unwrap_err().to_string(), "port: must be a number");
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error. Status codes, exit codes and exceptions are chosen from it at the door.
///
/// ```
/// use llm_core::Kind;
/// assert!(Kind::Overloaded.is_retryable() && !Kind::Overloaded.is_sick()); // it is well, and busy
/// assert!(Kind::NotFound.is_failover() && !Kind::NotFound.is_retryable()); // another may have the model
/// assert_eq!(Kind::RateLimited.name(), "rate_limited");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request is wrong: change it.
    Invalid,
    /// This provider cannot do it: ask another, which the message names.
    Unsupported,
    /// The key is missing or wrong.
    Unauthorized,
    /// No such model, file or route.
    NotFound,
    /// The prompt and the answer do not fit the context window: shorten them.
    ContextLength,
    /// Too many requests of this caller: wait.
    RateLimited,
    /// Everything is busy and the line is full: wait.
    Overloaded,
    /// The model is being loaded: wait.
    Loading,
    /// Nobody answers there: wait or mend the server.
    Unavailable,
    /// It took longer than allowed.
    Timeout,
    /// The server answered nonsense, broke off or failed.
    Upstream,
    /// The configuration is wrong: mend it at the place the message names.
    Config,
    /// A bug of ours.
    Internal,
}

/// The code of what took longer than its caller gave it, or than a server waits for its caller: nobody is ill.
pub(crate) const DEADLINE: &str = "deadline_exceeded";
/// The code of a host that ends what it has begun and takes nothing new.
pub(crate) const DRAINING: &str = "model_draining";
/// The code of a host whose certificate nobody vouches for.
pub(crate) const UNTRUSTED: &str = "upstream_untrusted";

impl Kind {
    /// Every kind, in the order in which the guide to errors has them.
    pub const ALL: [Kind; 13] = [
        Kind::Invalid,
        Kind::Unsupported,
        Kind::Unauthorized,
        Kind::NotFound,
        Kind::ContextLength,
        Kind::RateLimited,
        Kind::Overloaded,
        Kind::Loading,
        Kind::Unavailable,
        Kind::Timeout,
        Kind::Upstream,
        Kind::Config,
        Kind::Internal,
    ];

    /// The same request may succeed a little later.
    pub fn is_retryable(self) -> bool {
        use Kind::*;
        matches!(self, RateLimited | Overloaded | Loading | Unavailable | Timeout | Upstream)
    }

    /// Another provider may answer where this one failed; the caller's own mistakes fail everywhere.
    pub fn is_failover(self) -> bool {
        use Kind::*;
        self.is_retryable() || matches!(self, Unauthorized | NotFound | Unsupported | Internal)
    }

    /// The provider is ill, as opposed to the request, or to a provider that is well and busy.
    pub fn is_sick(self) -> bool {
        matches!(self, Kind::Unavailable | Kind::Timeout | Kind::Upstream | Kind::Internal)
    }

    /// The word for it in logs and metrics.
    pub fn name(self) -> &'static str {
        use Kind::*;
        match self {
            Invalid => "invalid",
            Unsupported => "unsupported",
            Unauthorized => "unauthorized",
            NotFound => "not_found",
            ContextLength => "context_length",
            RateLimited => "rate_limited",
            Overloaded => "overloaded",
            Loading => "loading",
            Unavailable => "unavailable",
            Timeout => "timeout",
            Upstream => "upstream",
            Config => "config",
            Internal => "internal",
        }
    }
}

/// An error with its kind, one sentence, and what the caller needs to mend it.
///
/// Neither prompts nor answers ever stand in it. It is one pointer wide, and cheap to clone, because a line of waiting
/// callers may all be told the same.
///
/// ```
/// use llm_core::{Error, Kind};
/// let error = Error::new(Kind::Invalid, "`temperature` must be between 0 and 2").param("temperature");
/// assert_eq!(error.to_string(), "`temperature` must be between 0 and 2");
/// assert!(!error.kind().is_retryable());
/// ```
///
/// Whoever knows more says so on the way up, and whoever acts on it asks:
///
/// ```
/// use std::time::Duration;
/// use llm_core::{Error, Kind};
/// let error = Error::new(Kind::RateLimited, "too many requests").retry_after(Duration::from_secs(2)).at("models.coder");
/// assert_eq!((error.place(), error.message()), ("models.coder", "too many requests"));
/// assert_eq!(error.get_retry_after(), Some(Duration::from_secs(2)));
/// assert_eq!(error.get_code(), Some("rate_limit_exceeded")); // what OpenAI's clients know it by
///
/// let error = Error::invalid("`n` must be at least 1").param("n").code("invalid_value").as_kind(Kind::Unsupported);
/// assert_eq!((error.get_param(), error.kind()), (Some("n"), Kind::Unsupported));
///
/// let cause = "x".parse::<u32>().unwrap_err();
/// let error = Error::config("is no number").at("retry.max_retries").because(cause).placed("LLM_MAX_RETRIES");
/// assert_eq!(error.to_string(), "LLM_MAX_RETRIES: is no number");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: String,
    place: String,
    code: Option<&'static str>,
    param: Option<String>,
    retry_after: Option<Duration>,
    source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
    is_quoted: bool,         // the message is in a host's own words
    is_final: bool,          // the host says that it would answer so again
    is_one_of_several: bool, // another deployment may be asked at once
}

impl Error {
    /// An error of this kind; the message is one lower-case sentence without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let (place, message) = (String::new(), message.into());
        let (code, param, retry_after, source, is_quoted, is_final, is_one_of_several) = Default::default();
        Error(Box::new(Inner {
            kind,
            message,
            place,
            code,
            param,
            retry_after,
            source,
            is_quoted,
            is_final,
            is_one_of_several,
        }))
    }

    /// A request that its sender must change.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(Kind::Invalid, message)
    }

    /// A configuration that its owner must change.
    pub fn config(message: impl Into<String>) -> Self {
        Error::new(Kind::Config, message)
    }

    /// Where it happened: `models.coder`, told on the way up, so the outermost place comes last.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        let inner = &mut self.0;
        inner.place = if inner.place.is_empty() { place.to_string() } else { format!("{place}.{}", inner.place) };
        self
    }

    /// The machine's word for it, where OpenAI's clients know one: `model_not_found`.
    pub fn code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    /// The field of the request that is to blame.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// How long to wait before trying again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// What caused it.
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(std::sync::Arc::new(source));
        self
    }

    /// The same error as another kind, for a door that means something else by it.
    pub fn as_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// In a host's own words, which may tell of the question that it was asked.
    pub(crate) fn quoted(mut self) -> Self {
        self.0.is_quoted = true;
        self
    }

    /// A host says that it would answer so again.
    pub(crate) fn for_good(mut self) -> Self {
        self.0.is_final = true;
        self
    }

    /// One of several deployments failed so, and another may be asked at once.
    pub(crate) fn of_one_of_several(mut self) -> Self {
        self.0.is_one_of_several = true;
        self
    }

    pub(crate) fn is_of_one_of_several(&self) -> bool {
        self.0.is_one_of_several
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_worth_another(&self) -> bool {
        self.kind().is_retryable() && !self.0.is_final
    }

    /// The same error for others than the one who asked.
    pub(crate) fn for_others(&self) -> Error {
        let mut told = self.clone();
        told.0.is_final = false; // of that request
        if !self.0.is_quoted {
            return told;
        }
        told.0.message = match self.kind() {
            Kind::Unauthorized => "the upstream refuses the key".into(),
            kind => format!("the upstream failed to answer ({})", kind.name()),
        };
        told.0.source = None;
        told
    }

    /// Whether it shows that the host is ill. A caller's deadline does not.
    pub(crate) fn is_of_a_sick_host(&self) -> bool {
        self.kind().is_sick() && self.0.code != Some(DEADLINE)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where it happened, from the outside in: `models.coder.base_url`.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// The same error with its place in other words, for those who never wrote the one it names.
    pub fn placed(mut self, place: impl Into<String>) -> Self {
        self.0.place = place.into();
        self
    }

    /// The sentence without its place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The machine's word for it, given or implied by the kind.
    pub fn get_code(&self) -> Option<&'static str> {
        self.0.code.or(match self.0.kind {
            Kind::ContextLength => Some("context_length_exceeded"),
            Kind::Unauthorized => Some("invalid_api_key"),
            Kind::RateLimited => Some("rate_limit_exceeded"),
            Kind::Overloaded => Some("queue_full"),
            Kind::Loading => Some("model_loading"),
            Kind::Unavailable => Some("model_unavailable"),
            Kind::Unsupported => Some("unsupported"),
            _ => None,
        })
    }

    /// The field of the request that is to blame.
    pub fn get_param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// How long to wait before trying again, where somebody knows.
    pub fn get_retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.place.as_str() {
            "" => f.write_str(&self.0.message),
            place => write!(f, "{place}: {}", self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind.name())?;
        self.0.source.as_ref().map_or(Ok(()), |source| write!(f, " (because {source})"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_from_the_outside_in() {
        let error = Error::config("no such provider").at("provider").at("models.coder");
        assert_eq!(error.to_string(), "models.coder.provider: no such provider");
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        let words = std::collections::BTreeSet::from(Kind::ALL.map(Kind::name));
        assert_eq!(words.len(), Kind::ALL.len());
    }

    #[test]
    fn for_programmers_the_kind_and_the_cause_are_printed_too() {
        let error = Error::config("is no number").at("port").because("x".parse::<u16>().unwrap_err());
        assert_eq!(format!("{error:?}"), "config: port: is no number (because invalid digit found in string)");
    }

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }
}

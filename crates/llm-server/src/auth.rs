//! Who may ask: whoever has the shared key.
use http::header::HeaderMap;
use llm_core::{Error, Kind, Result, secret::Secret};
use subtle::ConstantTimeEq;

use crate::Config;
use crate::asked::Asked;

/// Whether these headers carry the key.
pub(crate) fn of(config: &Config, headers: &HeaderMap) -> Result<()> {
    check(config.api_key.as_ref(), Asked::of(headers).key())
}

/// Whether this is the key. Nothing of the comparison's time tells how much of a wrong key was right.
pub(crate) fn check(key: Option<&Secret>, given: Option<&[u8]>) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let Some(given) = given else {
        let message = "no API key: send it as `Authorization: Bearer ..`, `x-api-key` or `api-key`";
        return Err(Error::new(Kind::Unauthorized, message));
    };
    match bool::from(given.ct_eq(key.reveal().as_bytes())) {
        true => Ok(()),
        false => Err(Error::new(Kind::Unauthorized, "wrong API key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens() {
        let key = Secret::new("sk-1");
        assert!(check(Some(&key), Some(b"sk-1")).is_ok() && check(None, None).is_ok());
        for wrong in [None, Some(&b"sk-2"[..]), Some(b""), Some(b"sk-11")] {
            assert_eq!(check(Some(&key), wrong).unwrap_err().kind(), Kind::Unauthorized);
        }
    }
}

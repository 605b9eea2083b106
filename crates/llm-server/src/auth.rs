//! Who may ask: one shared key, in whichever header a client sends it.
use http::header::{AUTHORIZATION, HeaderMap};
use llm_core::{Error, Kind, Result, secret::Secret};
use subtle::ConstantTimeEq;

/// Whether these headers carry the key. Nothing of the comparison's time tells how much of a wrong key was right.
pub(crate) fn check(key: Option<&Secret>, headers: &HeaderMap) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let Some(given) = given(headers) else {
        let message = "no API key: send it as `Authorization: Bearer ..`, `x-api-key` or `api-key`";
        return Err(Error::new(Kind::Unauthorized, message));
    };
    match bool::from(given.ct_eq(key.reveal().as_bytes())) {
        true => Ok(()),
        false => Err(Error::new(Kind::Unauthorized, "wrong API key")),
    }
}

fn given(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = || {
        let value = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, key) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
    };
    let plain = |name| Some(headers.get(name)?.as_bytes().trim_ascii());
    bearer().or_else(|| plain("x-api-key")).or_else(|| plain("api-key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_taken_from_three_headers() {
        let key = Secret::new("sk-1");
        for (name, value, good) in [
            ("authorization", "Bearer sk-1", true),
            ("authorization", "bearer  sk-1", true),
            ("x-api-key", "sk-1", true),
            ("api-key", "sk-1", true),
            ("authorization", "Bearer sk-2", false),
            ("authorization", "Bearer ", false),
            ("authorization", "sk-1", false),
            ("cookie", "sk-1", false),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(check(Some(&key), &headers).is_ok(), good, "{name}: {value}");
        }
        assert!(check(None, &HeaderMap::new()).is_ok());
    }
}

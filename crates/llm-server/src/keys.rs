//! Several keys with names: a file that holds their hashes, so that whoever reads it has none of them.
//!
//! A key is 24 random bytes, so its SHA-256 can be neither guessed nor looked up; two entries of one name are two keys
//! that are valid at once, while one takes the other's place.
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use llm_core::gateway::config::read_toml;
use llm_core::provider::settings;
use llm_core::{Error, Kind, Result, secret::Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Config;

/// One key of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is: the name in logs, quotas and fair lines.
    pub name: String,
    /// The SHA-256 of the key, as 64 hexadecimal digits.
    pub sha256: String,
}

impl Entry {
    /// A new key for somebody, and what the file shall hold of it.
    ///
    /// # Errors
    /// `Invalid` for a name that the file may not hold; `Internal` if the system has no randomness.
    ///
    /// ```
    /// let (key, entry) = llm_server::keys::Entry::new("alice")?;
    /// assert!(key.reveal().starts_with("sk-") && entry.sha256.len() == 64);
    /// assert!(llm_server::keys::Entry::new("Alice Smith").is_err());
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    pub fn new(name: &str) -> Result<(Secret, Entry)> {
        check_name(name)?;
        let key = crate::key::made().map_err(|e| Error::new(Kind::Internal, "no randomness to be had").because(e))?;
        let entry = Entry::of(name, &key);
        Ok((Secret::new(key), entry))
    }

    /// What the file shall hold of a key that somebody has already.
    ///
    /// ```
    /// let entry = llm_server::keys::Entry::of("alice", "sk-long-and-random");
    /// assert!(!entry.toml().contains("random"));
    /// ```
    pub fn of(name: &str, key: &str) -> Entry {
        let sha256 = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        Entry { name: name.to_owned(), sha256 }
    }

    /// As the file has it.
    pub fn toml(&self) -> String {
        format!("[[keys]]\nname = {:?}\nsha256 = {:?}\n", self.name, self.sha256)
    }
}

/// Who may ask.
#[derive(Default)]
pub(crate) struct Keys {
    shared: Option<Secret>,
    named: HashMap<[u8; 32], Arc<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: Vec<Entry>,
}

impl Keys {
    /// The shared key and those of the file.
    ///
    /// # Errors
    /// `Config`, with the file and what is wrong in it.
    pub(crate) fn of(config: &Config) -> Result<Keys> {
        if config.api_key.as_ref().is_some_and(|key| key.reveal().trim().is_empty()) {
            let message = "is empty, and would let in whoever sends an empty key: give one, or leave the setting out";
            return Err(Error::config(message).at("server.api_key"));
        }
        let named = config.keys.as_deref().map(read).transpose().map_err(|e| e.at("server.keys"))?;
        Ok(Keys { shared: config.api_key.clone(), named: named.unwrap_or_default() })
    }

    /// Whether everybody may ask.
    pub(crate) fn are_open(&self) -> bool {
        self.shared.is_none() && self.named.is_empty()
    }

    /// The name of whoever has this key; empty for the shared one, and where none is needed. Nothing of the time it takes
    /// tells how much of a wrong key was right.
    pub(crate) fn caller(&self, given: Option<&[u8]>) -> Result<Option<Arc<str>>> {
        if self.are_open() {
            return Ok(None);
        }
        let Some(given) = given else {
            let message = "no API key: send it as `Authorization: Bearer ..`, `x-api-key` or `api-key`";
            return Err(Error::new(Kind::Unauthorized, message));
        };
        if self.shared.as_ref().is_some_and(|key| bool::from(given.ct_eq(key.reveal().as_bytes()))) {
            return Ok(None);
        }
        let wrong = || Error::new(Kind::Unauthorized, "wrong API key");
        if self.named.is_empty() {
            return Err(wrong());
        }
        self.named.get(&*Sha256::digest(given)).cloned().map(Some).ok_or_else(wrong)
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    let wrong = || Error::invalid(format!("{name:?} is no name: 1 to 64 letters, digits and signs without spaces"));
    is_name.then_some(()).ok_or_else(wrong)
}

fn read(path: &Path) -> Result<HashMap<[u8; 32], Arc<str>>> {
    let wrong = |why: &dyn std::fmt::Display| Error::config(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    let file: File = read_toml(&text).and_then(|table| settings(&table)).map_err(|e| wrong(&e))?;
    if file.keys.is_empty() {
        return Err(wrong(&"holds no key; `llm keys new NAME` makes one"));
    }
    let mut named = HashMap::new();
    for Entry { name, sha256 } in file.keys {
        check_name(&name).map_err(|e| wrong(&e))?;
        let hash = hash(&sha256).ok_or_else(|| wrong(&format!("the sha256 of {name} is not 64 hexadecimal digits")))?;
        named.insert(hash, name.into());
    }
    Ok(named)
}

fn hash(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let pairs: Vec<&[u8]> = digits.as_bytes().chunks(2).collect();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, shared: Option<&str>) -> Result<Keys> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (keys, api_key) = (Some(file.path().to_owned()), shared.map(Secret::new));
        Keys::of(&Config { keys, api_key, ..Config::default() })
    }

    #[test]
    fn each_key_has_its_name_and_two_of_one_name_are_valid_at_once() {
        let made: Vec<_> = ["alice", "alice", "bob"].iter().map(|name| Entry::new(name).unwrap()).collect();
        let text: String = made.iter().map(|(_, entry)| entry.toml()).collect();
        assert!(made.iter().all(|(key, _)| !text.contains(key.reveal())), "no key can be read in it");
        let keys = keys(&text, Some("sk-shared")).unwrap();
        let caller = |key: &str| keys.caller(Some(key.as_bytes())).map(|name| name.map(|name| name.to_string()));
        for (key, entry) in &made {
            assert_eq!(caller(key.reveal()).unwrap(), Some(entry.name.clone()));
        }
        assert_eq!(caller("sk-shared").unwrap(), None);
        assert_eq!(caller(&made[0].1.sha256).unwrap_err().kind(), Kind::Unauthorized, "a hash is no key");
        assert!(keys.caller(None).is_err());
    }

    #[test]
    fn only_the_shared_key_opens_where_there_are_no_others_and_all_do_where_there_is_none() {
        let shared = Keys::of(&Config { api_key: Some(Secret::new("sk-1")), ..Config::default() }).unwrap();
        assert!(shared.caller(Some(b"sk-1")).is_ok());
        for wrong in [None, Some(&b"sk-2"[..]), Some(b""), Some(b"sk-11")] {
            assert_eq!(shared.caller(wrong).unwrap_err().kind(), Kind::Unauthorized);
        }
        assert!(Keys::default().caller(None).is_ok() && Keys::default().are_open());
    }

    #[test]
    fn an_empty_key_is_a_mistake_and_no_key() {
        for empty in ["", " \t"] {
            let config = Config { api_key: Some(Secret::new(empty)), ..Config::default() };
            let error = Keys::of(&config).err().unwrap().to_string();
            assert!(error.starts_with("server.api_key: is empty"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_with_what_is_wrong() {
        for (text, says) in [
            ("", "holds no key; `llm keys new NAME` makes one"),
            ("[[keys]]\nname = 'a b'\nsha256 = 'x'", "\"a b\" is no name"),
            ("[[keys]]\nname = 'a'\nsha256 = 'x'", "the sha256 of a is not 64 hexadecimal digits"),
            ("[[keys]]\nname = 'a'\nkey = 'sk-1'", "unknown field `key`"),
        ] {
            let error = keys(text, None).err().unwrap().to_string();
            assert!(error.starts_with("server.keys: ") && error.contains(says), "{error}");
        }
    }
}

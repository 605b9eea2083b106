//! Takes typed fields out of a JSON object, and names the one that is wrong.
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn of(body: &[u8]) -> Result<Fields> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Fields(map)),
            Ok(_) => Err(Error::invalid("the body must be a JSON object").code("invalid_json")),
            Err(e) => Err(Error::invalid(format!("the body is not valid JSON: {e}")).code("invalid_json")),
        }
    }

    /// Those of an object that has been read already.
    pub(crate) fn new(fields: Map<String, Value>) -> Fields {
        Fields(fields)
    }

    /// A field that may be left out, or null.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|e| Error::invalid(format!("`{name}` is wrong: {e}")).param(name)),
        }
    }

    /// Whether it is there, and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// A field that must be there.
    pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T> {
        self.take(name)?.ok_or_else(|| Error::invalid(format!("`{name}` is missing")).param(name))
    }

    /// A number within these limits.
    pub(crate) fn within(&mut self, name: &'static str, low: f32, high: f32) -> Result<Option<f32>> {
        match self.take::<f32>(name)? {
            Some(n) if !(low..=high).contains(&n) => {
                Err(Error::invalid(format!("`{name}` must be between {low} and {high}, not {n}")).param(name))
            }
            n => Ok(n),
        }
    }

    /// A whole number, 0 or more; clients write "no limit" as -1 too.
    pub(crate) fn count(&mut self, name: &'static str) -> Result<Option<u32>> {
        match self.take::<i64>(name)? {
            Some(-1) | None => Ok(None),
            Some(n) => u32::try_from(n)
                .map(Some)
                .map_err(|_| Error::invalid(format!("`{name}` must be a whole number from 0, not {n}")).param(name)),
        }
    }

    pub(crate) fn rest(self) -> Map<String, Value> {
        self.0
    }
}

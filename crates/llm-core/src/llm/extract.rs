//! Answers as Rust types.
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Llm;
use crate::call::ChatRequest;
use crate::error::Result;

impl Llm {
    /// Answers with a Rust type. The server is given its JSON schema, and those that can enforce it while they write.
    ///
    /// ```
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Place {
    ///     city: String,
    ///     population: u64,
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("{\"city\":\"Paris\",\"population\":2100000}"))?;
    /// let place: Place = llm.extract("Where is the Eiffel tower?").await?;
    /// println!("{} has {} inhabitants", place.city, place.population);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering; `Upstream` if the answer does not fit the type.
    pub async fn extract<T: JsonSchema + DeserializeOwned>(&self, request: impl Into<ChatRequest>) -> Result<T> {
        let request = request.into().schema(&T::schema_name(), schema::<T>());
        self.chat(request).await?.json()
    }
}

/// A type's schema in one piece: servers differ in which references they follow.
pub(super) fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    // OpenAI's strict mode wants every object closed.
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

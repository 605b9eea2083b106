//! Answers as Rust types.
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

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
        let request = request.into().schema(&T::schema_name(), strict(schema::<T>()));
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
    objects(&mut schema, &|fields| {
        fields.entry("additionalProperties").or_insert(false.into());
    });
    schema
}

/// OpenAI's strict mode takes a schema only if it requires all that it names. An `Option` may be null there, and is left out
/// as null; what has a default has to be written out, as serde would not read null for it.
fn strict(mut schema: Value) -> Value {
    any_of(&mut schema);
    objects(&mut schema, &|fields| {
        let Some(Value::Object(properties)) = fields.get_mut("properties") else { return };
        properties.values_mut().filter_map(Value::as_object_mut).for_each(|property| drop(property.remove("default")));
        let names: Vec<Value> = properties.keys().map(|name| name.as_str().into()).collect();
        fields.insert("required".into(), names.into());
    });
    schema
}

/// It knows no `oneOf`, which is how an enum with data is described; its alternatives are no two alike.
fn any_of(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(alternatives) = fields.remove("oneOf") {
                fields.insert("anyOf".into(), alternatives);
            }
            for (word, inside) in fields.iter_mut().filter(|(word, _)| !VALUES.contains(&word.as_str())) {
                match (word.as_str(), inside) {
                    ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(any_of),
                    (_, inside) => any_of(inside),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(any_of),
        _ => {}
    }
}

/// Words of a schema behind which stand values, and no schemas.
const VALUES: [&str; 4] = ["const", "default", "enum", "examples"];

/// Every object with fields of its own, wherever it stands in a schema.
fn objects(schema: &mut Value, change: &impl Fn(&mut Map<String, Value>)) {
    match schema {
        Value::Object(fields) => {
            for (word, inside) in fields.iter_mut() {
                match (word.as_str(), inside) {
                    // Here the words are the type's own, and mean nothing to a schema.
                    ("properties" | "$defs", Value::Object(named)) => {
                        named.values_mut().for_each(|schema| objects(schema, change));
                    }
                    (word, _) if VALUES.contains(&word) => {}
                    (_, inside) => objects(inside, change),
                }
            }
            if fields.contains_key("properties") {
                change(fields);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|schema| objects(schema, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Trip {
        to: String,
        back: Option<String>,
        #[serde(default)]
        nights: u32,
        hotel: Option<Hotel>,
        stops: Vec<Hotel>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Hotel {
        name: String,
        stars: Option<u8>,
        /// A name that is also a word of schemas.
        properties: Option<Vec<String>>,
    }

    /// The names in a list, in an order of their own.
    fn names(list: &Value) -> Vec<&str> {
        let mut names: Vec<_> = list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn may_be_null(schema: &Value) -> bool {
        schema["type"].as_array().is_some_and(|types| types.contains(&json!("null")))
    }

    #[test]
    fn an_answer_must_name_every_field_and_may_leave_an_option_null() {
        let trip = strict(schema::<Trip>());
        assert_eq!(names(&trip["required"]), ["back", "hotel", "nights", "stops", "to"]);
        let fields = &trip["properties"];
        assert!(may_be_null(&fields["back"]) && may_be_null(&fields["hotel"]), "{trip}");
        assert!(!may_be_null(&fields["nights"]) && fields["nights"].get("default").is_none(), "{trip}");
        for hotel in [&fields["hotel"], &fields["stops"]["items"]] {
            assert_eq!(names(&hotel["required"]), ["name", "properties", "stars"]);
            assert!(may_be_null(&hotel["properties"]["stars"]) && hotel["additionalProperties"] == false, "{hotel}");
            assert!(hotel["properties"].get("additionalProperties").is_none(), "{hotel}");
        }
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Drawing {
        shape: Shape,
        #[serde(rename = "oneOf")]
        one_of: Option<Side>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    enum Shape {
        Circle { radius: f64 },
        Square { side: f64, name: Option<String> },
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    enum Side {
        /// Where the sun rises.
        East,
        /// Where it sets.
        West,
    }

    #[test]
    fn an_enum_is_one_of_its_alternatives_in_the_word_that_strict_mode_knows() {
        let drawing = strict(schema::<Drawing>());
        let shapes = drawing["properties"]["shape"]["anyOf"].as_array().unwrap();
        assert_eq!(names(&shapes[1]["properties"]["Square"]["required"]), ["name", "side"]);
        assert!(drawing["properties"].get("oneOf").is_some(), "a field of the type's own: {drawing}");
        let text =
            drawing.to_string().replace(r#""oneOf":{"#, "").replace(r#"["oneOf","#, "").replace(r#","oneOf"]"#, "");
        assert!(!text.contains("oneOf"), "{drawing}");
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Verdict {
        thoughts: String,
        because: Vec<String>,
        answer: bool,
    }

    #[test]
    fn fields_keep_their_order_so_that_a_model_thinks_before_it_answers() {
        let request = ChatRequest::new("?").schema("verdict", strict(schema::<Verdict>()));
        let call = crate::Call::new(request, crate::Delivery::Whole);
        let bytes = call.wire(&[crate::dialect::openai()]).unwrap().bytes;
        let text = String::from_utf8_lossy(&bytes);
        let places = ["\"thoughts\":", "\"because\":", "\"answer\":"].map(|name| text.find(name).expect(name));
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn a_tool_asks_for_what_serde_needs() {
        let trip = schema::<Trip>();
        assert_eq!(names(&trip["required"]), ["stops", "to"]);
        assert_eq!(names(&trip["properties"]["stops"]["items"]["required"]), ["name"]);
    }

    #[test]
    fn what_is_left_out_as_null_is_none() {
        let answer = json!({"to": "Rome", "back": null, "nights": 2, "hotel": null,
            "stops": [{"name": "Inn", "stars": null, "properties": null}]});
        let trip: Trip = serde_json::from_value(answer).unwrap();
        assert!(trip.back.is_none() && trip.hotel.is_none() && trip.stops[0].stars.is_none());
    }
}

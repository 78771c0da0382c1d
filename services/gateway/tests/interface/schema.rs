//! Whether a value is what a schema of the gateway's description says: of JSON Schema what that description uses, and nothing else.

use gateway::openapi::document;
use serde_json::Value;

/// Words that say nothing of what a value may be.
const WORDS: [&str; 6] = ["description", "format", "default", "example", "title", "identifier"];

/// # Errors
/// In words, with the place.
pub(crate) fn check(value: &Value, schema: &Value) -> Result<(), String> {
    at("$", value, schema)
}

fn at(place: &str, value: &Value, schema: &Value) -> Result<(), String> {
    for (word, said) in schema.as_object().ok_or("a schema is an object")? {
        let holds = match word.as_str() {
            "$ref" => {
                let pointer = said.as_str().and_then(|said| said.strip_prefix('#')).ok_or("a reference")?;
                return at(place, value, document().pointer(pointer).ok_or("a schema")?);
            }
            "anyOf" => said.as_array().is_some_and(|any| any.iter().any(|one| at(place, value, one).is_ok())),
            "type" => types(said).iter().any(|kind| is(value, kind)),
            "enum" => said.as_array().is_some_and(|any| any.contains(value)),
            "minimum" => value.as_i64().zip(said.as_i64()).is_none_or(|(value, least)| value >= least),
            "maximum" => value.as_i64().zip(said.as_i64()).is_none_or(|(value, most)| value <= most),
            "minLength" => value.as_str().zip(said.as_u64()).is_none_or(|(text, n)| text.len() as u64 >= n),
            "maxLength" => value.as_str().zip(said.as_u64()).is_none_or(|(text, n)| text.len() as u64 <= n),
            "required" => value.as_object().is_none_or(|map| names(said).all(|name| map.contains_key(name))),
            "additionalProperties" => value
                .as_object()
                .is_none_or(|map| map.keys().all(|name| schema["properties"].get(name).is_some())),
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = said.get(name) {
                        at(&format!("{place}.{name}"), value, schema)?;
                    }
                }
                true
            }
            "items" => {
                for (n, value) in value.as_array().into_iter().flatten().enumerate() {
                    at(&format!("{place}[{n}]"), value, said)?;
                }
                true
            }
            word if WORDS.contains(&word) => true,
            word => return Err(format!("{word} is not known here")),
        };
        if !holds {
            return Err(format!("{place}: {word} {said} does not hold for {value}"));
        }
    }
    Ok(())
}

fn names(said: &Value) -> impl Iterator<Item = &str> {
    said.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn types(said: &Value) -> Vec<&str> {
    said.as_str().map_or_else(|| names(said).collect(), |one| vec![one])
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

use std::collections::BTreeSet;

use super::*;

/// All references of a document.
fn references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            into.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, into)),
        _ => {}
    }
}

#[test]
fn whatever_is_referred_to_is_there_and_whatever_is_there_is_referred_to() {
    let document = document();
    let mut referred = BTreeSet::new();
    references(&document, &mut referred);
    for reference in &referred {
        let found = document.pointer(reference.strip_prefix('#').expect("within the document"));
        assert!(found.is_some(), "{reference}");
    }
    for kind in ["schemas", "parameters", "headers"] {
        for name in document["components"][kind].as_object().expect("a map").keys() {
            assert!(referred.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is of no use");
        }
    }
}

#[test]
fn every_operation_and_every_answer_says_what_it_is() {
    let document = document();
    let mut ids = BTreeSet::new();
    for operation in Operation::ALL {
        let method = operation.method().as_str().to_ascii_lowercase();
        let described = &document["paths"][operation.path()][&method];
        assert!(ids.insert(described["operationId"].as_str().expect("an id")), "{operation:?}");
        for (status, answer) in described["responses"].as_object().expect("answers") {
            assert!(!answer["description"].as_str().expect("words").is_empty(), "{operation:?} {status}");
        }
    }
    for parameter in PARAMETERS {
        assert!(parameter.described()["schema"]["type"].is_string(), "{}", parameter.key);
    }
}

#[test]
fn the_page_names_every_operation_and_asks_for_nothing_from_elsewhere() {
    for operation in Operation::ALL {
        let heading = format!("<code>{} {}</code></h2>", operation.method(), operation.path());
        assert!(PAGE.contains(&heading), "{heading}");
    }
    for elsewhere in ["<script", "<link", "<img", "src=", "@import"] {
        assert!(!PAGE.contains(elsewhere), "{elsewhere}");
    }
}

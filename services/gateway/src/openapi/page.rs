//! The description as a page that needs nothing from elsewhere.

use std::fmt::Write;

use serde_json::Value;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
h2{margin:2.5rem 0 .3rem;font-size:1.15rem}code,pre{font:.9rem ui-monospace,monospace}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.25rem .7rem .25rem 0;border-bottom:1px solid #ddd}th{font-weight:600}\
pre{background:#f5f5f5;padding:.7rem;overflow:auto}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}\
pre{background:#242424}th,td{border-color:#444}a{color:#8ab4f8}}";

/// The document as HTML.
pub(super) fn render(document: &Value) -> String {
    let mut page = String::with_capacity(32 << 10);
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let title = text(&document["info"]["title"]);
    let _infallible = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title} {}</h1><p>{} <a href=\"/openapi.json\">OpenAPI</a></p>",
        text(&document["info"]["version"]),
        text(&document["info"]["summary"]),
    );
    for (path, methods) in entries(&document["paths"]) {
        for (method, operation) in entries(methods) {
            let _infallible = write!(
                page,
                "<h2 id=\"{}\"><code>{} {}</code></h2><p><strong>{}.</strong> {}</p>",
                text(&operation["operationId"]),
                method.to_uppercase(),
                escape(path),
                text(&operation["summary"]),
                text(&operation["description"]),
            );
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            table(
                &mut page,
                "Parameter",
                parameters.iter().filter_map(|parameter| {
                    let parameter = found(document, parameter)?;
                    let name = format!("{} ({})", text(&parameter["name"]), text(&parameter["in"]));
                    Some((name, text(&parameter["description"])))
                }),
            );
            let answers = entries(&operation["responses"]);
            table(
                &mut page,
                "Status",
                answers.map(|(status, answer)| (status.clone(), text(&answer["description"]))),
            );
        }
    }
    for (name, schema) in entries(&document["components"]["schemas"]) {
        let schema = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _infallible = write!(page, "<h2 id=\"{name}\">{name}</h2><pre>{}</pre>", escape(&schema));
    }
    page
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// What a reference within the document leads to.
fn found<'a>(document: &'a Value, reference: &Value) -> Option<&'a Value> {
    document.pointer(reference["$ref"].as_str()?.strip_prefix('#')?)
}

fn table(page: &mut String, head: &str, rows: impl Iterator<Item = (String, String)>) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _infallible = write!(page, "<table><tr><th>{head}<th>");
    for (name, words) in rows {
        let _infallible = write!(page, "<tr><td><code>{name}</code><td>{words}");
    }
    page.push_str("</table>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

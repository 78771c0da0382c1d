//! What nobody should send: each is refused in our own words, stores nothing, and shows nobody else's order.

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use gateway::operation::Operation;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{LIMIT, SECRET, Trial, UNLIMITED, gateway, place, token};

/// Who has nothing more to say is left soon.
const SHORT: [&str; 6] =
    ["--rate-limit", "0", "--http-head-timeout-ms", "300", "--http-body-timeout-ms", "300"];

/// No answer has one of these: they are of our tools, not of the interface.
const LEAKS: [&str; 22] = [
    "serde",
    "panicked",
    "unwrap",
    "invalid type",
    "missing field",
    "unknown variant",
    "expected value",
    "EOF while",
    "at line",
    "trailing characters",
    "recursion limit",
    "key must be",
    "Rust",
    "tokio",
    "hyper",
    "axum",
    "postgres",
    "deadpool",
    "src/",
    "Utf8Error",
    "jsonwebtoken",
    "deserialize",
];

/// One answer: its status, and all of it.
struct Answer {
    status: u16,
    text: String,
}

/// Sends bytes and reads until the other side has no more to say.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<Answer> {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    // It may refuse before it has read everything.
    let _refused = stream.write_all(bytes).await;
    let mut read = Vec::new();
    let _reset = timeout(LIMIT, stream.read_to_end(&mut read)).await.expect("an end within the limit");
    let text = String::from_utf8_lossy(&read).into_owned();
    let answers = text.split("HTTP/1.1 ").skip(1);
    answers
        .map(|text| Answer { status: text[..3].parse().expect("a status"), text: text.to_owned() })
        .collect()
}

struct Bad {
    name: &'static str,
    bytes: Vec<u8>,
    /// What the last answer may be; none, where the connection is closed without one.
    status: &'static [u16],
}

/// A request with a body.
fn request(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line} HTTP/1.1\r\nhost: food\r\nconnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Who sends them, and what is not theirs.
struct Scene {
    kim: String,
    lous: String,
}

impl Scene {
    fn auth(&self) -> String {
        format!("authorization: Bearer {}", self.kim)
    }

    fn place(&self, name: &'static str, body: impl AsRef<[u8]>, status: &'static [u16]) -> Bad {
        Bad { name, bytes: request("POST /place-order", &[&self.auth()], body.as_ref()), status }
    }

    fn with(&self, name: &'static str, header: &str, status: &'static [u16]) -> Bad {
        let bytes = request("POST /place-order", &[&self.auth(), header], br#"{"item":""}"#);
        Bad { name, bytes, status }
    }

    fn get(&self, name: &'static str, path: &str, status: &'static [u16]) -> Bad {
        Bad { name, bytes: request(&format!("GET {path}"), &[&self.auth()], b""), status }
    }

    fn raw(&self, name: &'static str, text: &str, status: &'static [u16]) -> Bad {
        Bad { name, bytes: text.replace("AUTH", &self.auth()).into_bytes(), status }
    }

    /// Lou's order, asked for with this token.
    fn token(&self, name: &'static str, token: &str) -> Bad {
        let path = format!("GET /orders/{}", self.lous);
        Bad { name, bytes: request(&path, &[&format!("authorization: Bearer {token}")], b""), status: &[401] }
    }

    fn bodies(&self) -> Vec<Bad> {
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        let field = format!("{{\"item\":{}1{}}}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
        vec![
            self.place("no JSON", "{not json", &[400]),
            self.place("half an object", r#"{"item":"soup""#, &[400]),
            self.place("something behind it", r#"{"item":"soup"} {}"#, &[400]),
            self.place("invalid UTF-8", b"{\"item\":\"\xff\xfe\"}", &[400]),
            self.place("an overlong encoding", b"{\"item\":\"\xc0\xaf\"}", &[400]),
            self.place("half a surrogate", r#"{"item":"\ud800"}"#, &[400]),
            self.place("a byte order mark", b"\xef\xbb\xbf{\"item\":\"soup\"}", &[400]),
            self.place("zero bytes", [0_u8; 100], &[400]),
            self.place("UTF-16", b"{\0\"\0i\0t\0e\0m\0\"\0:\0", &[400]),
            self.place("a comment", "{/*x*/\"item\":\"soup\"}", &[400]),
            self.place("NaN", r#"{"item":"soup","quantity":NaN}"#, &[400]),
            self.place("depth without end", deep, &[400, 422]),
            self.place("a deep field", field, &[400, 422]),
            self.place("a list", r#"[{"item":"soup"}]"#, &[422]),
            self.place("null", "null", &[422]),
            self.place("a number", "7", &[422]),
            self.place("an empty object", "{}", &[422]),
            self.place("the same field twice", r#"{"item":"soup","item":"tea"}"#, &[400, 422]),
            self.place(
                "a field that there is not",
                r#"{"item":"soup","__proto__":{"role":"operator"}}"#,
                &[422],
            ),
            self.place("a status of its own", r#"{"item":"soup","status":"COMPLETED"}"#, &[422]),
            self.place("somebody else's name", r#"{"item":"soup","customer_id":"lou"}"#, &[403]),
            self.place("a control character", "{\"item\":\"a\\u0000b\"}", &[422]),
            self.place("a line of its own", "{\"item\":\"a\\nb\"}", &[422]),
            self.place("white space alone", r#"{"item":"   "}"#, &[422]),
            self.place("a text too long", json!({"item": "x".repeat(201)}).to_string(), &[422]),
            self.place("a body too large", json!({"item": "x".repeat(70_000)}).to_string(), &[413]),
            self.place("an amount below nothing", r#"{"item":"soup","amount_cents":-1}"#, &[422]),
            self.place("an amount over the limit", r#"{"item":"soup","amount_cents":1000001}"#, &[422]),
            self.place("beyond 64 bits", r#"{"item":"soup","amount_cents":18446744073709551616}"#, &[422]),
            self.place("beyond any number", r#"{"item":"soup","quantity":1e999}"#, &[400, 422]),
            self.place("a fraction", r#"{"item":"soup","quantity":1.5}"#, &[422]),
            self.place("a number as a text", r#"{"item":"soup","quantity":"2"}"#, &[422]),
            self.place("a price by number", r#"{"item":"soup","quantity":1000}"#, &[422]),
            self.place(
                "a token too long",
                json!({"item": "soup", "payment_token": "x".repeat(65)}).to_string(),
                &[422],
            ),
        ]
    }

    fn headers(&self) -> Vec<Bad> {
        vec![
            self.with("XML", "content-type: application/xml", &[415]),
            self.with("a form of parts", "content-type: multipart/form-data; boundary=x", &[415]),
            self.with("compressed", "content-encoding: gzip", &[415]),
            self.with("an empty key", "idempotency-key: ", &[400]),
            self.with("a key with a space", "idempotency-key: a b", &[400]),
            self.with("a key too long", &format!("idempotency-key: {}", "k".repeat(256)), &[400]),
            self.with("two keys", "idempotency-key: a\r\nidempotency-key: b", &[400]),
            self.with(
                "a correlation id with an end of line",
                "x-correlation-id: a%0d%0aset-cookie: b=c",
                &[422],
            ),
            self.with(
                "a correlation id that is markup",
                "x-correlation-id: <script>alert(1)</script>\u{1}",
                &[400, 422],
            ),
            self.with(
                "a correlation id too long",
                &format!("x-correlation-id: {}", "c".repeat(5_000)),
                &[422],
            ),
            self.with("a correlation id of bytes", "x-correlation-id: \u{fffd}\u{202e}", &[422]),
            self.with("a trace of its own form", "traceparent: 00-zz-zz-01", &[422]),
            self.with("headers without end", &format!("x-a: {}", "a".repeat(200_000)), &[431]),
            self.with("many headers", "x-a: 1\r\n".repeat(500).trim_end(), &[431, 400]),
            self.with("an expectation", "expect: 200-maybe", &[417, 422]),
            self.with(
                "who it is, said by itself",
                "x-backburner-operator: 1\r\nx-backburner-subject: lou",
                &[422],
            ),
        ]
    }

    fn paths(&self) -> Vec<Bad> {
        let lous = &self.lous;
        let of = |before: &str, after: &str| format!("{before}{lous}{after}");
        vec![
            self.get("somebody else's order", &of("/orders/", ""), &[404]),
            self.get("somebody else's events", &of("/orders/", "/events"), &[404]),
            self.get("up and down again", &of("/orders/x/../", ""), &[404]),
            self.get("up and down, encoded", &of("/orders/%2e%2e/orders/", ""), &[404]),
            self.get("an encoded slash", &of("/orders%2f", ""), &[404]),
            self.get("two slashes", &of("//orders/", ""), &[404]),
            self.get("a slash too many", &of("/orders/", "/"), &[404]),
            self.get("a zero byte", &of("/orders/", "%00"), &[404]),
            self.get("no id", "/orders/1%20or%201=1", &[404]),
            self.get("bytes for an id", "/orders/%ff%fe", &[404]),
            self.get("another's list", "/orders?customer_id=lou", &[403]),
            self.get("another's list, twice", "/orders?customer_id=kim&customer_id=lou", &[400]),
            self.get("no such parameter", "/orders?customer_id[]=lou", &[400]),
            self.get("a statement", "/orders?status=PAID'--", &[422]),
            self.get("a zero byte to look for", "/orders?correlation_id=%00", &[400]),
            self.get("a page of nothing", "/orders?limit=0", &[422]),
            self.get("a page of everything", "/orders?limit=99999999999999999999", &[400]),
            self.get("a long wait", &of("/orders/", "?wait=86400"), &[400]),
            self.get("files", "/../../etc/passwd", &[404]),
            self.get("a path without end", &format!("/orders/{}", "a".repeat(8_000)), &[404]),
            self.get("inside", "/livez", &[404]),
        ]
    }

    fn smuggled(&self) -> Vec<Bad> {
        let cancel = format!("POST /orders/{} HTTP/1.1\r\nhost: food\r\nAUTH\r\n", self.lous);
        let long = cancel.len();
        vec![
            self.raw("two lengths", "POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ncontent-length: 2\r\ncontent-length: 11\r\n\r\n{}\"item\":\"x\"", &[400]),
            self.raw("a length below nothing", "POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ncontent-length: -1\r\n\r\n{}", &[400]),
            self.raw("a length with a sign", "POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ncontent-length: +2\r\n\r\n{}", &[400]),
            self.raw("a length beyond 64 bits", "POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ncontent-length: 99999999999999999999\r\n\r\n{}", &[400]),
            self.raw("an unknown encoding", "POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", &[400]),
            self.raw("chunked not last", "POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", &[400]),
            self.raw("a chunk that is none", "POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", &[400]),
            self.raw("a chunk beyond 64 bits", "POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n", &[400]),
            self.raw("a length and chunks, and another request in the length", &format!("POST /place-order HTTP/1.1\r\nhost: f\r\nAUTH\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n{cancel}\r\n", long + 12), &[400, 404, 405, 422]),
            self.raw("a space before the colon", "GET /orders HTTP/1.1\r\nhost : f\r\nAUTH\r\n\r\n", &[400]),
            self.raw("a folded header", "GET /orders HTTP/1.1\r\nhost: f\r\nx-a: b\r\n c: d\r\nAUTH\r\n\r\n", &[400]),
            self.raw("a bare end of line in a header", "GET /orders HTTP/1.1\r\nhost: f\r\nx-a: b\rc: d\r\nAUTH\r\n\r\n", &[400]),
            self.raw("a zero byte in a header", "GET /orders HTTP/1.1\r\nhost: f\r\nx-a: b\0c\r\nAUTH\r\n\r\n", &[400]),
            self.raw("a space in the path", "GET /orders /x HTTP/1.1\r\nhost: f\r\nAUTH\r\n\r\n", &[400]),
            self.raw("another protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
            self.raw("no protocol", "GET /orders\r\n\r\n", &[400]),
            self.raw("a version that there is not", "GET /orders HTTP/9.9\r\nhost: f\r\n\r\n", &[400, 505]),
            self.raw("a tunnel", "CONNECT orders:8081 HTTP/1.1\r\nhost: f\r\nAUTH\r\n\r\n", &[400, 404, 405]),
            self.raw("another server", "GET http://169.254.169.254/latest/ HTTP/1.1\r\nhost: f\r\nAUTH\r\nconnection: close\r\n\r\n", &[404]),
            self.raw("another method", "TRACE /orders HTTP/1.1\r\nhost: f\r\nAUTH\r\nconnection: close\r\n\r\n", &[405]),
            self.raw("a method without end", &format!("{} /orders HTTP/1.1\r\n\r\n", "A".repeat(60_000)), &[405]),
            self.raw("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}", &[400]),
        ]
    }

    fn tokens(&self) -> Vec<Bad> {
        let body = BASE64.encode(
            json!({"sub": "lou", "iss": "login", "aud": "food", "exp": 4_000_000_000_u64}).to_string(),
        );
        let none = |alg: &str| format!("{}.{body}.", BASE64.encode(format!("{{\"alg\":\"{alg}\"}}")));
        let by = |secret: &str, algorithm| {
            let claims = json!({"sub": "lou", "iss": "login", "aud": "food", "exp": 4_000_000_000_u64});
            encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes()))
                .expect("signed")
        };
        let signature = self.kim.rsplit('.').next().unwrap_or_default();
        vec![
            self.token("expired", &token("lou", &json!({"exp": 1_000}))),
            self.token("not yet", &token("lou", &json!({"nbf": 4_000_000_000_u64}))),
            self.token("unsigned", &none("none")),
            self.token("unsigned, in capitals", &none("NONE")),
            self.token("another algorithm", &by(SECRET, Algorithm::HS512)),
            self.token("another algorithm's name", &none("RS256")),
            self.token("another's secret", &by("another secret of thirty-two bytes!", Algorithm::HS256)),
            self.token("no secret", &by("", Algorithm::HS256)),
            self.token(
                "another body under a good signature",
                &format!("{}.{body}.{signature}", BASE64.encode("{\"alg\":\"HS256\"}")),
            ),
            self.token("for somebody else", &token("lou", &json!({"aud": "others"}))),
            self.token("of somebody else", &token("lou", &json!({"iss": "others"}))),
            self.token("of nobody", &token("", &json!({}))),
            self.token("of a list", &token("x", &json!({"sub": ["lou"]}))),
            self.token("no token", "lou"),
            self.token("bytes", "\u{80}\u{fffd}"),
            self.token("long", &"x".repeat(20_000)),
            self.token("two", &format!("{}\r\nauthorization: Bearer {}", self.kim, self.kim)),
        ]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_should_send_is_refused_stores_nothing_and_shows_nothing() {
    let trial = Trial::start().await;
    let (address, _stop) = gateway(trial.orders, &SHORT).await;
    let (kim, lou) = (token("kim", &json!({})), token("lou", &json!({})));
    let lous = place(address, &lou, &json!({"item": "what lou eats"})).await;
    let scene = Scene { kim: kim.clone(), lous: lous.clone() };
    let before = trial.stored().await;
    let all = [scene.bodies(), scene.headers(), scene.paths(), scene.smuggled(), scene.tokens()];
    let all: Vec<Bad> = all.into_iter().flatten().collect();
    assert!(all.len() >= 60, "{}", all.len());
    let mut wrong = Vec::new();
    for Bad { name, bytes, status } in all {
        let answers = exchange(address, &bytes).await;
        let Some(last) = answers.last() else {
            wrong.extend((!status.is_empty()).then(|| format!("{name}: no answer")));
            continue;
        };
        if !status.contains(&last.status) {
            wrong.push(format!("{name}: {} is none of {status:?}: {}", last.status, last.text));
        }
        for Answer { status, text } in &answers {
            if *status >= 500 || (200..300).contains(status) {
                wrong.push(format!("{name}: {status}"));
            }
            let leaks = LEAKS.iter().filter(|leak| text.contains(**leak));
            wrong.extend(leaks.map(|leak| format!("{name}: says {leak}: {text}")));
            if text.len() > 4_000 {
                wrong.push(format!("{name}: says {} bytes", text.len()));
            }
            if text.contains("what lou eats") || text.contains("set-cookie") {
                wrong.push(format!("{name}: shows what is not theirs: {text}"));
            }
            wrong.extend(
                undescribed(&bytes, *status, text.contains("problem+json"))
                    .map(|route| format!("{name}: {status} is not described of {route}")),
            );
        }
        if trial.stored().await != before {
            wrong.push(format!("{name}: something is stored"));
            break;
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    // And it works as before.
    let path = request(&format!("GET /orders/{lous}"), &[&format!("authorization: Bearer {lou}")], b"");
    let answers = exchange(address, &path).await;
    assert!(answers[0].text.contains("PENDING"), "{}", answers[0].text);
}

/// The route of a request whose answer is a problem of ours that its description does not name.
fn undescribed(bytes: &[u8], status: u16, ours: bool) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    let (method, rest) = text.split_once(' ')?;
    let path = rest.split([' ', '?']).next()?;
    let parts: Vec<&str> = path.split('/').collect();
    let same = |operation: &Operation| {
        let route: Vec<&str> = operation.path().split('/').collect();
        let fits = |(part, given): (&&str, &&str)| part.starts_with('{') || part == given;
        operation.method().as_str() == method
            && route.len() == parts.len()
            && route.iter().zip(&parts).all(fits)
    };
    let operation = Operation::ALL.into_iter().find(same)?;
    // What is no problem of ours was said before there was a request, and a route.
    (ours && !operation.statuses().contains(&status)).then_some(operation.path())
}

/// A problem says what, why and what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_wrong_with_a_body_is_said_at_once() {
    let trial = Trial::start().await;
    let (address, _stop) = gateway(trial.orders, &UNLIMITED).await;
    let auth = format!("authorization: Bearer {}", token("kim", &json!({})));
    let body = br#"{"item":"","quantity":-1,"amount_cents":"x","qty":3}"#;
    let answers =
        exchange(address, &request("POST /place-order", &[&auth, "x-correlation-id: c-7"], body)).await;
    let text = answers[0].text.split("\r\n\r\n").nth(1).expect("a body");
    let problem: Value = serde_json::from_str(text).expect("JSON");
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .filter_map(|error| error["pointer"].as_str())
        .collect();
    assert_eq!((answers[0].status, &problem["correlation_id"]), (422, &json!("c-7")));
    assert_eq!(pointers, ["/qty", "/item", "/quantity", "/amount_cents"]);
}

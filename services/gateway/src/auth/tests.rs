use axum::http::header::AUTHORIZATION;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use clap::Parser;
use jsonwebtoken::{EncodingKey, encode};
use openssl::rsa::Rsa;
use serde_json::{Value, json};

use super::*;
use crate::Settings;

const SECRET: &str = "a secret of more than thirty-two bytes";

fn settings(more: &[&str]) -> AuthArgs {
    let args =
        ["gateway", "--orders-url", "http://orders:1", "--jwt-issuer", "login", "--jwt-audience", "food"];
    Settings::try_parse_from(args.iter().chain(more)).expect("sound settings").auth
}

fn by_secret() -> Auth {
    Auth::new(&settings(&["--jwt-hs256-secret", SECRET])).expect("sound").expect("tokens are asked for")
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

fn claims() -> Value {
    json!({"sub": "kim", "iss": "login", "aud": "food", "exp": now() + 60})
}

/// The sound claims, and these.
fn with(more: Value) -> Value {
    let mut claims = claims();
    let (Value::Object(claims_), Value::Object(more)) = (&mut claims, more) else { panic!("objects") };
    for (name, value) in more {
        match value {
            Value::Null => drop(claims_.remove(&name)),
            value => drop(claims_.insert(name, value)),
        }
    }
    claims
}

fn signed(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .expect("signed")
}

fn check(auth: &Auth, token: &str) -> Result<Identity, (u16, &'static str)> {
    let headers =
        [(AUTHORIZATION, format!("Bearer {token}").parse().expect("a value"))].into_iter().collect();
    auth.check(&headers).map_err(|problem| (problem.status.as_u16(), problem.code))
}

#[test]
fn a_sound_token_says_who_asks() {
    let auth = by_secret();
    let kim = |operator| Ok(("kim".to_owned(), operator));
    let check = |auth: &Auth, token: &str| check(auth, token).map(|who| (who.subject, who.operator));
    assert_eq!(check(&auth, &signed(&claims())), kim(false));
    assert_eq!(check(&auth, &signed(&with(json!({"role": "operator"})))), kim(true));
    assert_eq!(check(&auth, &signed(&with(json!({"roles": ["x", "operator"]})))), kim(true));
    assert_eq!(check(&auth, &signed(&with(json!({"roles": ["operators"], "role": "customer"})))), kim(false));
    assert_eq!(check(&auth, &signed(&with(json!({"role": ["operator"], "roles": null})))), kim(true));
    assert_eq!(check(&auth, &signed(&with(json!({"role": {"operator": 1}, "roles": 7})))), kim(false));
    assert_eq!(check(&auth, &signed(&with(json!({"aud": ["other", "food"], "nbf": now() - 5})))), kim(false));
    assert_eq!(check(&auth, &signed(&with(json!({"exp": now() - 5})))), kim(false), "clocks differ");
}

#[test]
fn what_is_wrong_with_a_token_is_said_and_nothing_of_it() {
    let auth = by_secret();
    let wrong: Vec<(&str, Value)> = vec![
        ("token-expired", with(json!({"exp": now() - 3600}))),
        ("token-invalid", with(json!({"exp": null}))),
        ("token-invalid", with(json!({"exp": "soon"}))),
        ("token-invalid", with(json!({"nbf": now() + 3600}))),
        ("token-invalid", with(json!({"iss": "somebody"}))),
        ("token-invalid", with(json!({"iss": null}))),
        ("token-invalid", with(json!({"aud": "others"}))),
        ("token-invalid", with(json!({"aud": null}))),
        ("token-invalid", with(json!({"sub": null}))),
        ("token-invalid", with(json!({"sub": ""}))),
        ("token-invalid", with(json!({"sub": 7}))),
        ("token-invalid", with(json!({"sub": "a\nb"}))),
        ("token-invalid", with(json!({"sub": " kim"}))),
        ("token-invalid", with(json!({"sub": "x".repeat(101)}))),
        ("token-invalid", with(json!({"nbf": "x"}))),
        ("token-invalid", with(json!({"sub": "guest"}))),
    ];
    for (code, claims) in wrong {
        assert_eq!(check(&auth, &signed(&claims)), Err((401, code)), "{claims}");
    }
    let good = signed(&claims());
    let mut parts: Vec<&str> = good.split('.').collect();
    let other = BASE64.encode(with(json!({"role": "operator"})).to_string());
    parts[1] = &other;
    for broken in [
        parts.join("."),
        good.replace('.', ""),
        format!("{good}x"),
        format!("{good}."),
        String::new(),
        "x".repeat(9_000),
    ] {
        assert_eq!(check(&auth, &broken), Err((401, "token-invalid")), "{broken}");
    }
    let none = HeaderMap::new();
    assert_eq!(auth.check(&none).map_err(|problem| problem.code), Err("token-missing"));
    let headers = [(AUTHORIZATION, "Basic a2ltOg==".parse().expect("a value"))].into_iter().collect();
    assert_eq!(auth.check(&headers).map_err(|problem| problem.code), Err("token-missing"));
}

#[test]
fn the_algorithm_is_the_settings_and_not_the_tokens() {
    let auth = by_secret();
    let head = |alg: &str| BASE64.encode(format!("{{\"alg\":\"{alg}\",\"typ\":\"JWT\"}}"));
    let body = BASE64.encode(claims().to_string());
    for alg in ["none", "None", "NONE", "RS256", ""] {
        for signature in ["", "c2ln"] {
            let token = format!("{}.{body}.{signature}", head(alg));
            assert_eq!(check(&auth, &token), Err((401, "token-invalid")), "{alg} {signature}");
        }
    }
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for other in [Algorithm::HS384, Algorithm::HS512] {
        let token = encode(&Header::new(other), &claims(), &key).expect("signed");
        assert_eq!(check(&auth, &token), Err((401, "token-invalid")), "{other:?}");
    }
    let other = EncodingKey::from_secret(b"another secret of thirty-two bytes!");
    let foreign = encode(&Header::default(), &claims(), &other).expect("signed");
    assert_eq!(check(&auth, &foreign), Err((401, "token-invalid")));
}

/// A key of RSA: what signs, and what is published of it.
fn rsa(kid: &str) -> (EncodingKey, Value) {
    let key = Rsa::generate(2048).expect("a key");
    let jwk = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
                     "n": BASE64.encode(key.n().to_vec()), "e": BASE64.encode(key.e().to_vec())});
    (EncodingKey::from_rsa_der(&key.private_key_to_der().expect("DER")), jwk)
}

fn by(key: &EncodingKey, kid: Option<&str>) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::RS256) };
    encode(&header, &claims(), key).expect("signed")
}

#[test]
fn published_keys_check_by_their_id_and_sign_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("jwks.json");
    let (key, jwk) = rsa("k1");
    let (stranger, _) = rsa("k2");
    let secret = json!({"kty": "oct", "kid": "s1", "alg": "HS256", "k": BASE64.encode(SECRET)});
    let unknown =
        json!({"kty": "EC", "crv": "secp256k1", "alg": "ES256K", "kid": "u1", "x": "AA", "y": "AA"});
    std::fs::write(&path, json!({"keys": [unknown, jwk, secret]}).to_string()).expect("written");
    let file = path.display().to_string();
    let auth =
        Auth::new(&settings(&["--jwt-jwks-file", &file])).expect("sound").expect("tokens are asked for");
    assert!(check(&auth, &by(&key, Some("k1"))).is_ok());
    for (token, what) in [
        (by(&key, Some("k9")), "of a key that is not there"),
        (by(&key, None), "without an id"),
        (by(&stranger, Some("k1")), "by another key under its id"),
        (signed(&claims()), "by a secret"),
    ] {
        assert_eq!(check(&auth, &token), Err((401, "token-invalid")), "{what}");
    }
    // The oldest trick: what is published, taken for a secret.
    for published in
        [jwk["n"].as_str().expect("a text").as_bytes().to_vec(), std::fs::read(&path).expect("readable")]
    {
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims(), &EncodingKey::from_secret(&published)).expect("signed");
        assert_eq!(check(&auth, &token), Err((401, "token-invalid")));
    }
    for (text, wrong) in [("{", "malformed"), ("{\"keys\":[]}", "empty")] {
        std::fs::write(&path, text).expect("written");
        assert!(Auth::new(&settings(&["--jwt-jwks-file", &file])).is_err(), "{wrong}");
    }
    std::fs::write(&path, json!({"keys": [secret]}).to_string()).expect("written");
    assert!(matches!(Auth::new(&settings(&["--jwt-jwks-file", &file])), Err(AuthError::NoKey { .. })));
}

#[test]
fn settings_that_check_nothing_are_refused() {
    assert!(matches!(Auth::new(&settings(&["--jwt-hs256-secret", "short"])), Err(AuthError::Short(5))));
    assert!(matches!(
        Auth::new(&settings(&["--jwt-hs256-secret-file", "/nowhere"])),
        Err(AuthError::Read(..))
    ));
    assert!(matches!(Auth::new(&settings(&[])), Err(AuthError::KeyForgotten)));
    assert!(Auth::new(&AuthArgs::default()).expect("sound").is_none());
    let parse = |args: &[&str]| {
        Settings::try_parse_from(["gateway", "--orders-url", "http://orders:1"].iter().chain(args)).map(drop)
    };
    assert!(parse(&["--jwt-hs256-secret", SECRET]).is_err(), "without an issuer and an audience");
    let both =
        ["--jwt-issuer", "a", "--jwt-audience", "b", "--jwt-hs256-secret", SECRET, "--jwt-jwks-file", "f"];
    assert!(parse(&both).is_err());
    assert!(!format!("{:?} {:?}", by_secret(), settings(&["--jwt-hs256-secret", SECRET])).contains(SECRET));
}

use super::*;

#[test]
fn the_mode_is_taken_out_of_the_url_and_nothing_else_is_touched() {
    for (url, rest, mode) in [
        ("postgres://u:p@h/d", "postgres://u:p@h/d", None),
        ("postgres://u:p@h/d?sslmode=disable", "postgres://u:p@h/d", Some(Mode::Disable)),
        ("postgres://u:p@h/d?a=b&sslmode=prefer", "postgres://u:p@h/d?a=b", Some(Mode::Prefer)),
        ("postgres://u:p@h/d?sslmode=require&a=b", "postgres://u:p@h/d?a=b", Some(Mode::Require)),
        ("postgres://u:p?w@h/d?sslmode=verify-ca", "postgres://u:p?w@h/d", Some(Mode::VerifyCa)),
        ("postgres://u:p?w@h/d", "postgres://u:p?w@h/d", None),
        ("postgres:///d?sslmode=verify-full&a=?", "postgres:///d?sslmode=verify-full&a=?", None),
    ] {
        assert_eq!(take_mode(url).expect("valid"), (rest.to_owned(), mode), "{url}");
    }
    let error = take_mode("postgres://u:secret@h/d?sslmode=allow").expect_err("libpq's, not ours");
    assert!(error.to_string().contains("sslmode=allow") && !error.to_string().contains("secret"));
}

#[test]
fn modes_mean_what_libpq_says() {
    use Mode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
    let none = TlsFiles::default();
    let root = TlsFiles { root_cert: Some("ca.pem".into()), ..none.clone() };
    let (nothing, authority, name) = (Verify::Nothing, Verify::Authority, Verify::AuthorityAndName);
    for (mode, files, expected) in [
        (None, &none, (SslMode::Disable, nothing)),
        (None, &root, (SslMode::Require, name)),
        (Some(Disable), &root, (SslMode::Disable, nothing)),
        (Some(Prefer), &none, (SslMode::Prefer, nothing)),
        (Some(Prefer), &root, (SslMode::Prefer, authority)),
        (Some(Require), &none, (SslMode::Require, nothing)),
        (Some(Require), &root, (SslMode::Require, authority)),
        (Some(VerifyCa), &root, (SslMode::Require, authority)),
        (Some(VerifyFull), &none, (SslMode::Require, name)),
        (Some(VerifyFull), &root, (SslMode::Require, name)),
    ] {
        assert_eq!(plan(mode, files).expect("possible"), expected, "{mode:?}, {files:?}");
    }
    assert!(matches!(plan(Some(VerifyCa), &none), Err(TlsError::AnyAuthority)));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let fails = |files: &TlsFiles| {
        let (_, error) = (connector(None, files).map(drop), connector(None, files).err());
        error.expect("cannot work").to_string()
    };
    let missing = TlsFiles { root_cert: Some("/nowhere/ca.pem".into()), ..TlsFiles::default() };
    assert_eq!(fails(&missing), "cannot read DATABASE_TLS_ROOT_CERT at /nowhere/ca.pem");
    let other = TlsFiles { root_cert: Some(file!().replace("services/chassis/", "").into()), ..missing };
    assert!(fails(&other).starts_with("cannot use DATABASE_TLS_ROOT_CERT"));
    let half = TlsFiles { client_key: Some("key.pem".into()), ..TlsFiles::default() };
    assert!(matches!(connector(None, &half).err(), Some(TlsError::HalfAPair)));
    connector(Some(Mode::VerifyFull), &TlsFiles::default()).expect("the system's authorities");
}

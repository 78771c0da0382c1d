use super::*;

#[test]
fn a_token_comes_from_the_setting_or_a_file_and_is_never_shown() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, "secret-1\n").expect("written");
    let path = file.path().to_owned();
    let from_file = AdminArgs { admin_token: None, admin_token_file: Some(path) };
    let given = AdminArgs { admin_token: Some("secret-1".into()), admin_token_file: None };
    for args in [from_file, given] {
        assert_eq!(args.guard().expect("usable"), Guard::with_token("secret-1"));
        assert!(!format!("{args:?} {:?}", args.guard()).contains("secret-1"));
    }
    assert_eq!(AdminArgs::default().guard().expect("none"), Guard::default());
    for bad in ["", "two words", "é"] {
        let args = AdminArgs { admin_token: Some(bad.into()), admin_token_file: None };
        assert!(matches!(args.guard(), Err(TokenError::Unusable { .. })), "{bad:?}");
    }
    let missing = AdminArgs { admin_token: None, admin_token_file: Some("/nowhere".into()) };
    assert!(matches!(missing.guard(), Err(TokenError::Read { .. })));
}

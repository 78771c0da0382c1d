use super::*;

#[test]
fn only_the_database_is_another() {
    for (url, expected) in [
        ("postgres://u:p@host:5/old", "postgres://u:p@host:5/new"),
        ("postgres://host/old?sslmode=require", "postgres://host/new?sslmode=require"),
        ("postgres://host", "postgres://host/new"),
    ] {
        assert_eq!(with_database(url, "new"), expected);
    }
}

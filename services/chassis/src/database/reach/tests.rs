use super::*;
use crate::database::TlsError;

fn database(url: &str) -> Result<Database, DatabaseError> {
    Database::new(url, "test", &TlsFiles::default())
}

#[test]
fn a_malformed_url_is_said_to_be_one() {
    assert!(matches!(database("postgres:/nonsense here"), Err(DatabaseError::Url(_))));
    assert!(matches!(database("postgres://h/d?sslmode=maybe"), Err(DatabaseError::Tls(TlsError::Mode(_)))));
}

#[test]
fn options_of_the_url_are_kept() {
    let database = database("postgres://u:p@localhost/d?options=-c%20work_mem%3D8MB&sslmode=verify-full")
        .expect("valid");
    assert_eq!(database.pool(3).expect("a pool").status().max_size, 3);
    assert_eq!(database.config.get_options(), Some("-c work_mem=8MB"));
    assert_eq!(database.config.get_application_name(), Some("test"));
    assert_eq!(database.config.get_ssl_mode(), SslMode::Require);
}

#[test]
fn without_a_word_on_tls_there_is_none() {
    for url in ["postgres://u:p@localhost/d", "host=localhost dbname=d"] {
        assert_eq!(database(url).expect("valid").config.get_ssl_mode(), SslMode::Disable, "{url}");
    }
    let pairs = database("host=localhost dbname=d sslmode=require").expect("valid");
    assert_eq!(pairs.config.get_ssl_mode(), SslMode::Require);
}

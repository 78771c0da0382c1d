use super::*;

#[test]
fn every_setting_has_a_heading() {
    use clap::CommandFactory;
    assert!(Settings::command().get_arguments().all(|arg| arg.get_help_heading().is_some()));
}

#[test]
fn the_url_of_orders_is_a_host_and_a_port() {
    let parse = |url: &str| Settings::try_parse_from(["gateway", "--orders-url", url]);
    let settings = parse("http://orders:8081/").expect("sound");
    assert_eq!(settings.orders_url.to_string(), "http://orders:8081");
    assert_eq!((settings.http_listen.port(), settings.admin_listen.port()), (8000, 9100));
    for url in ["orders:8081", "https://orders", "http://orders/api", "http://orders/?a", ""] {
        assert!(parse(url).is_err(), "{url}");
    }
}

#[test]
fn the_command_line_is_sound() {
    use clap::CommandFactory;
    Settings::command().debug_assert();
}

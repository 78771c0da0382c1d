use super::*;

#[test]
fn every_setting_has_a_heading() {
    use clap::CommandFactory;
    assert!(Settings::command().get_arguments().all(|arg| arg.get_help_heading().is_some()));
}

#[test]
fn the_command_line_is_sound_and_needs_only_its_servers() {
    use clap::CommandFactory;
    Settings::command().debug_assert();
    let args =
        ["orders", "--orders-database-url", "postgres://localhost/orders", "--kafka-brokers", "k:9092"];
    let settings = Settings::try_parse_from(args).expect("enough");
    assert_eq!((settings.http_listen.port(), settings.admin_listen.port()), (8081, 9101));
    assert!(!settings.common.test_tokens, "off unless asked for");
}

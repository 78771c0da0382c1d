use super::*;

#[test]
fn every_setting_has_a_heading() {
    use clap::CommandFactory;
    assert!(Settings::command().get_arguments().all(|arg| arg.get_help_heading().is_some()));
}

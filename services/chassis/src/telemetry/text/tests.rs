use super::*;

#[test]
fn what_is_too_long_is_cut_at_a_character() {
    assert_eq!(cut("éé", 4), "éé");
    assert_eq!(cut("ééé", 5), "é…");
    let long = "é".repeat(1_000);
    assert_eq!(bounded(format_args!("{long}"), 5), "é…");
    assert_eq!(bounded(format_args!("{}{}", "ab", "cd"), 4), "abcd");
    assert_eq!(bounded(format_args!("{}{}", "ab", "cde"), 4), "a…");
    assert_eq!(line("a\u{202e}\u{9b}b\n"), "a\\u{202e}\\u{9b}b\n");
    assert!(line(&"\u{200b}".repeat(10_000)).len() <= MAX_LINE);
}

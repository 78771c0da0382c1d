//! As much of PromQL as is needed to know what an expression reads: its parts that must have series, the metrics and the labels it names.

use std::collections::BTreeSet;

/// A piece of an expression, by where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    start: usize,
}

/// Signs of more than one character.
const LONG: [&str; 6] = ["=~", "!~", "!=", "==", "<=", ">="];
const SETS: [&str; 3] = ["and", "or", "unless"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];
/// What may follow an operator before its right side begins.
const MATCHING: [&str; 4] = ["on", "ignoring", "group_left", "group_right"];
/// Words before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.')
}

fn tokens(expression: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(c) = expression[at..].chars().next() {
        let rest = &expression[at..];
        let length = if c.is_whitespace() {
            c.len_utf8()
        } else if is_word(c) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if c == '"' || c == '\'' {
            quoted(rest, c)
        } else {
            LONG.iter().find(|sign| rest.starts_with(**sign)).map_or(c.len_utf8(), |sign| sign.len())
        };
        if !c.is_whitespace() {
            tokens.push(Token { text: &rest[..length], start: at });
        }
        at += length;
    }
    tokens
}

/// The length of the text that `rest` begins with.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// For each token, in how many brackets it stands. Brackets stand inside themselves.
fn depths(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut depth = 0;
    let mut depths = Vec::new();
    for token in tokens {
        let opens = matches!(token.text, "(" | "{" | "[");
        let closes = matches!(token.text, ")" | "}" | "]");
        depth += usize::from(opens);
        depths.push(depth);
        depth -= usize::from(closes);
    }
    depths
}

/// The parts between `operators` that stand outside all brackets, each without what belongs to the operator before it.
fn split<'t, 'a>(tokens: &'t [Token<'a>], operators: &[&str]) -> Vec<&'t [Token<'a>]> {
    let depths = depths(tokens);
    let at = (0..tokens.len()).filter(|at| depths[*at] == 0 && operators.contains(&tokens[*at].text));
    let (mut parts, mut from) = (Vec::new(), 0);
    for at in at.chain([tokens.len()]) {
        parts.push(without_matching(&tokens[from..at]));
        from = at + 1;
    }
    parts
}

/// What follows `bool`, `on (…)`, `group_left (…)` and the like.
fn without_matching<'t, 'a>(mut tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    loop {
        match tokens {
            [first, rest @ ..] if first.text == "bool" => tokens = rest,
            [first, rest @ ..] if MATCHING.contains(&first.text) => {
                let list = rest.first().is_some_and(|token| token.text == "(");
                let end = rest.iter().position(|token| token.text == ")").filter(|_| list);
                tokens = &rest[end.map_or(0, |end| end + 1)..];
            }
            _ => return tokens,
        }
    }
}

/// What stands in a pair of brackets that holds all of it.
fn unwrapped<'t, 'a>(tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    let depths = depths(tokens);
    let holds_all = |inner: &[usize]| inner.iter().all(|depth| *depth >= 1);
    match tokens {
        [first, inner @ .., last] if (first.text, last.text) == ("(", ")") && holds_all(&depths) => {
            // One pair, not two beside each other: within it nothing comes back to its level.
            let closes_before = (1..tokens.len() - 1).any(|at| depths[at] == 1 && tokens[at].text == ")");
            if closes_before { tokens } else { unwrapped(inner) }
        }
        _ => tokens,
    }
}

/// The parts of an alert's condition, each a query of its own that has to have series however well all is: the sides of its `and` and
/// `or`, and of what it compares. A number is none.
pub(crate) fn operands(expression: &str) -> Vec<&str> {
    fn collect<'a>(expression: &'a str, tokens: &[Token<'a>], found: &mut Vec<&'a str>) {
        let tokens = unwrapped(tokens);
        for operators in [&SETS[..], &COMPARISONS[..]] {
            let parts = split(tokens, operators);
            if parts.len() > 1 {
                parts.into_iter().for_each(|part| collect(expression, part, found));
                return;
            }
        }
        let is_number = |token: &Token<'_>| token.text.parse::<f64>().is_ok() || token.text == "-";
        if let [first, .., last] | [first @ last] = tokens
            && !tokens.iter().all(is_number)
        {
            found.push(&expression[first.start..last.start + last.text.len()]);
        }
    }
    let mut found = Vec::new();
    collect(expression, &tokens(expression), &mut found);
    found
}

/// What an expression names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// Metrics.
    pub(crate) metrics: BTreeSet<&'a str>,
    /// Labels, of selectors and of lists such as `by (…)`.
    pub(crate) labels: BTreeSet<&'a str>,
}

/// The metrics and labels that are named in an expression.
pub(crate) fn named(expression: &str) -> Named<'_> {
    let tokens = tokens(expression);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let is_name = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let mut named = Named::default();
    // What closes the list or the selector that stands here.
    let mut until = None;
    for at in 0..tokens.len() {
        let word = text(at);
        match until {
            Some(end) if word == end => until = None,
            Some(_) if is_name(word) => drop(named.labels.insert(word)),
            Some(_) => {}
            None if word == "{" => until = Some("}"),
            None if LISTS.contains(&word) && text(at + 1) == "(" => until = Some(")"),
            None => {
                let is_called = text(at + 1) == "(" || LISTS.contains(&text(at + 1));
                if is_name(word) && !is_called && !SETS.contains(&word) && word != "bool" {
                    named.metrics.insert(word);
                }
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_of_a_condition_are_its_parts() {
        for (expression, expected) in [
            ("max by (group) (a{state=\"x > 1\"}) > 0", vec!["max by (group) (a{state=\"x > 1\"})"]),
            (
                "up == 0 and on (instance, job) count_over_time(b[1h]) > 0",
                vec!["up", "count_over_time(b[1h])"],
            ),
            ("max by (state) (a) > scalar(max(b)) + 900", vec!["max by (state) (a)", "scalar(max(b)) + 900"]),
            (
                "(time() - max(a > 0) > 900) or (b unless ignoring (x) c <= bool 2)",
                vec!["time() - max(a > 0)", "b", "c"],
            ),
            ("(a) / (b) > -0.8", vec!["(a) / (b)"]),
            ("a > on (x) group_left (y) b", vec!["a", "b"]),
            ("process_open_fds", vec!["process_open_fds"]),
        ] {
            assert_eq!(operands(expression), expected, "{expression}");
        }
    }

    #[test]
    fn metrics_and_labels_are_told_apart() {
        let expression = r#"sum by (le, g) (rate(a_bucket{b=~"c|d",e!="f"}[5m])) / on (h) i unless time() - max(k) > bool 2"#;
        let named = named(expression);
        assert_eq!(named.metrics.into_iter().collect::<Vec<_>>(), ["a_bucket", "i", "k"]);
        assert_eq!(named.labels.into_iter().collect::<Vec<_>>(), ["b", "e", "g", "h", "le"]);
    }
}

//! What PostgreSQL says of an error, without values of rows.

use tokio_postgres::error::DbError;

/// What the server said, without its DETAIL, which prints rows, and without its message where that may repeat a value.
pub(crate) fn text(error: &DbError) -> String {
    let parts = [("constraint", error.constraint()), ("table", error.table()), ("column", error.column())];
    let mut text = sentence(error.code().code(), error.message());
    for (what, name) in parts {
        if let Some(name) = name {
            text.push_str(&format!(", {what} {name}"));
        }
    }
    text
}

/// The server's sentence, or ours where that one may repeat a value: of the classes of data and constraints, and of errors that a
/// schema raises in words of its own.
fn sentence(state: &str, message: &str) -> String {
    let ours = match state {
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a date or time is malformed or out of range",
        "22012" => "division by zero",
        "22021" => "a text holds what its encoding does not allow, such as U+0000",
        "22P02" | "22P03" => "a value is malformed for its type",
        "22P05" => "a character has no equal in the database's encoding",
        "23502" => "null where a value is needed",
        "23503" => "a foreign key is violated",
        "23505" => "a unique key is there already",
        "23514" => "a check is violated",
        "23P01" => "an exclusion constraint is violated",
        _ => match state.get(..2) {
            Some("22") => "a value is not what its type allows",
            Some("23") => "a constraint is violated",
            Some(
                "00" | "01" | "02" | "08" | "0A" | "25" | "26" | "28" | "3D" | "40" | "42" | "53" | "54"
                | "55" | "57" | "58" | "XX",
            ) => message,
            _ => "an error of the schema's own",
        },
    };
    format!("{ours} (SQLSTATE {state})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_repeat_a_value_is_said_in_our_words() {
        let message = "invalid input syntax for type integer: \"4111\"";
        for state in ["22P02", "22003", "22ZZZ", "23505", "23ZZZ", "P0001", "ABCDE", ""] {
            assert!(!sentence(state, message).contains("4111"), "{state}");
        }
        assert_eq!(
            sentence("42P01", "relation \"x\" does not exist"),
            "relation \"x\" does not exist (SQLSTATE 42P01)"
        );
    }
}

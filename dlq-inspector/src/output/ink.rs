//! Colours.

/// Colours, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Needs somebody.
    Bad,
    /// In between.
    Warn,
    /// Fine.
    Good,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
}

impl Ink {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Bad => "31",
            Self::Warn => "33",
            Self::Good => "32",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

//! Macros of the crate's own.

/// A place where a test may end the process; nothing at all without the feature `failpoints`.
macro_rules! failpoint {
    ($variant:ident) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($crate::failpoint::Failpoint::$variant.name());
    };
}

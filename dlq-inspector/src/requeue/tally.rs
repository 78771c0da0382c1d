//! How a run of `requeue` ended.

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All batches were tried.
    Finished,
    /// A signal asked to stop.
    Stopped,
    /// Another operator took over.
    Fenced,
}

/// How many letters ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) requeued: usize,
    pub(super) not_requeued: usize,
    pub(super) resolved: usize,
    pub(super) dead_again: usize,
    pub(super) outstanding: usize,
}

//! Whom spans are told to: one of the process, as with metrics.

use std::sync::OnceLock;

use thiserror::Error;

use super::{parent::TraceParent, span::Span};

static RECORDER: OnceLock<Box<dyn Recorder>> = OnceLock::new();

/// Takes spans. It is called in the midst of the work: it neither waits nor fails.
pub trait Recorder: Send + Sync + 'static {
    /// Whether spans of the trace are wanted. `parent` is the one that the work has; without one, the trace begins with it.
    fn samples(&self, trace_id: u128, parent: Option<TraceParent>) -> bool;

    /// Takes a span that has ended.
    fn record(&self, span: Span);
}

/// There is one already.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("spans of this process are told to another recorder already")]
pub struct AlreadyInstalled;

/// From now on spans are told to `recorder`, for as long as the process lives. Without one nothing is told, and nothing is done for it.
///
/// # Errors
/// When there is one already.
pub fn install(recorder: Box<dyn Recorder>) -> Result<(), AlreadyInstalled> {
    RECORDER.set(recorder).map_err(|_| AlreadyInstalled)
}

/// Whom spans are told to, if anybody.
pub fn recorder() -> Option<&'static dyn Recorder> {
    RECORDER.get().map(Box::as_ref)
}

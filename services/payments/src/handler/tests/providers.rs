//! Providers that answer, or do not, as a test wants.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::ORDER;
use crate::provider::{
    ChargeAnswer, ChargeRequest, ListedCharge, PaymentProvider, ProviderError, Reference, RefundRequest,
    VoidAnswer, VoidRequest, simulated::Simulated,
};

/// Counts how often it is asked.
#[derive(Clone)]
pub(super) struct Counting {
    pub(super) inner: Simulated,
    pub(super) asked: Arc<AtomicU32>,
}

impl PaymentProvider for Counting {
    async fn charge(&self, request: ChargeRequest<'_>) -> Result<ChargeAnswer, ProviderError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.charge(request).await
    }

    async fn refund(&self, request: RefundRequest<'_>) -> Result<Reference, ProviderError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.refund(request).await
    }

    async fn void(&self, request: VoidRequest<'_>) -> Result<VoidAnswer, ProviderError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.void(request).await
    }

    async fn charges(&self, after: &str, limit: i64) -> Result<Vec<ListedCharge>, ProviderError> {
        self.inner.charges(after, limit).await
    }
}

/// Never answers.
pub(super) struct Silent;

impl PaymentProvider for Silent {
    async fn charge(&self, _request: ChargeRequest<'_>) -> Result<ChargeAnswer, ProviderError> {
        std::future::pending().await
    }

    async fn refund(&self, _request: RefundRequest<'_>) -> Result<Reference, ProviderError> {
        std::future::pending().await
    }

    async fn void(&self, _request: VoidRequest<'_>) -> Result<VoidAnswer, ProviderError> {
        std::future::pending().await
    }

    async fn charges(&self, _after: &str, _limit: i64) -> Result<Vec<ListedCharge>, ProviderError> {
        std::future::pending().await
    }
}

/// Has charged, and its answer was lost.
pub(super) struct Forgotten;

impl PaymentProvider for Forgotten {
    async fn charge(&self, _request: ChargeRequest<'_>) -> Result<ChargeAnswer, ProviderError> {
        std::future::pending().await
    }

    async fn refund(&self, _request: RefundRequest<'_>) -> Result<Reference, ProviderError> {
        std::future::pending().await
    }

    async fn void(&self, request: VoidRequest<'_>) -> Result<VoidAnswer, ProviderError> {
        assert_eq!(
            (request.charge, request.refund),
            (&*format!("charge:{ORDER}"), &*format!("refund:{ORDER}"))
        );
        let (charge, refund) = (Reference::new("ch_1"), Reference::new("re_1"));
        Ok(VoidAnswer::Returned { amount_cents: 900, charge, refund })
    }

    async fn charges(&self, _after: &str, _limit: i64) -> Result<Vec<ListedCharge>, ProviderError> {
        std::future::pending().await
    }
}

/// Fails as a server does that is there and broken, until it is mended.
pub(super) struct Broken(pub(super) AtomicU32);

impl Broken {
    fn answer(&self) -> Result<Reference, ProviderError> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(Reference::new("ch_1")),
            1 => Err(ProviderError::Unavailable { code: "status-500", message: "broken".into() }),
            _ => Err(ProviderError::Unreachable { code: "connect", message: "gone".into() }),
        }
    }
}

impl PaymentProvider for Broken {
    async fn charge(&self, _request: ChargeRequest<'_>) -> Result<ChargeAnswer, ProviderError> {
        self.answer().map(ChargeAnswer::Approved)
    }

    async fn refund(&self, _request: RefundRequest<'_>) -> Result<Reference, ProviderError> {
        self.answer()
    }

    async fn void(&self, _request: VoidRequest<'_>) -> Result<VoidAnswer, ProviderError> {
        self.answer().map(|_| VoidAnswer::Nothing)
    }

    async fn charges(&self, _after: &str, _limit: i64) -> Result<Vec<ListedCharge>, ProviderError> {
        self.answer().map(|_| Vec::new())
    }
}

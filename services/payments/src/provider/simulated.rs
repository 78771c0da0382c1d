//! A payment provider without a network: its answers are a pure function of idempotency key, seed and try, and a list says what it holds.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{
    ChargeAnswer, ChargeRequest, ListedCharge, PaymentProvider, ProviderError, Reference, RefundRequest, Try,
    VoidAnswer, VoidRequest, book::Book, token::TestToken,
};

/// How the names of charges begin whose refunds fail so often as the number behind it says.
const FLAKY_REFUND: &str = "ch_refund_flaky";

/// How the simulation behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedSettings {
    /// Share of charges that are declined, 0 to 1. 0.5 tosses a coin.
    pub decline_rate: f64,
    /// Share of tries that fail and may be repeated, 0 to 1.
    pub transient_rate: f64,
    /// How long every answer takes.
    pub latency: Duration,
    /// Share of payments whose requests are never answered, 0 to 1.
    pub silent_rate: f64,
    /// Another seed gives other declines and failures.
    pub seed: u64,
    /// A charge of more than this is refused for ever, in cents.
    pub max_amount_cents: i64,
    /// Whether [`TestToken`]s force their path; else they are refused for ever.
    pub test_tokens: bool,
}

/// It takes every charge and answers at once; test tokens are off.
impl Default for SimulatedSettings {
    fn default() -> Self {
        Self {
            decline_rate: 0.0,
            transient_rate: 0.0,
            latency: Duration::ZERO,
            silent_rate: 0.0,
            seed: 0,
            max_amount_cents: i64::MAX,
            test_tokens: false,
        }
    }
}

/// The simulated provider.
///
/// What it answers needs no memory: the same request gets the same answer, in every process and after every restart. What differs from
/// try to try, as failures do, depends on the try's number. What it holds is in its [`Book`], if it has one: then it charges before it
/// answers, as providers do whose answers are late or lost. Without one there is never anything to void.
#[derive(Clone, Debug)]
pub struct Simulated {
    settings: SimulatedSettings,
    book: Option<Book>,
}

impl Simulated {
    /// A provider that behaves as told.
    pub fn new(settings: SimulatedSettings, book: Option<Book>) -> Self {
        Self { settings, book }
    }

    /// The answer to a charge, at once.
    fn charge_now(&self, request: ChargeRequest<'_>) -> Result<ChargeAnswer, ProviderError> {
        let limit = self.settings.max_amount_cents;
        if request.amount_cents > limit {
            let message = format!("a charge of {} cents is over the limit of {limit}", request.amount_cents);
            return Err(ProviderError::Permanent { code: "amount-over-limit", message });
        }
        match request.token.and_then(TestToken::parse) {
            None => self.ordinary(request),
            Some(_) if !self.settings.test_tokens => Err(ProviderError::Permanent {
                code: "test-token-refused",
                message: "the payment token is for tests, and test tokens are off: start the services with \
                          TEST_TOKENS=true to use it"
                    .to_owned(),
            }),
            Some(Err(_)) => Err(ProviderError::Permanent {
                code: "unknown-test-token",
                message: "the payment token begins like a test token and is none".to_owned(),
            }),
            Some(Ok(token)) => self.forced(request, token),
        }
    }

    fn ordinary(&self, request: ChargeRequest<'_>) -> Result<ChargeAnswer, ProviderError> {
        self.chance_of_failure(request.key, request.attempt)?;
        if self.chance(&[b"decline", request.key.as_bytes()]) < self.settings.decline_rate {
            return Ok(declined());
        }
        Ok(self.approved(request.key))
    }

    fn forced(&self, request: ChargeRequest<'_>, token: TestToken) -> Result<ChargeAnswer, ProviderError> {
        match token {
            TestToken::Flaky(failures) if request.attempt.failed < failures => {
                Err(unavailable(request.attempt))
            }
            TestToken::Down => Err(unavailable(request.attempt)),
            TestToken::Declined => Ok(declined()),
            TestToken::Poison => Err(ProviderError::Permanent {
                code: "payment-method-unusable",
                message: "the provider cannot charge this payment method".to_owned(),
            }),
            // A bug of ours is what these two stand for: it has to take the actor down, as a real one would.
            TestToken::Crash => panic!("test token tok_crash: the payment of {} panics", request.key),
            TestToken::CrashOnce if request.attempt.crashed == 0 => {
                panic!("test token tok_crash_once: the first try of {} panics", request.key)
            }
            // How its refund will go is written into its name: whoever asks for that has nothing else.
            TestToken::RefundFlaky(failures) => {
                Ok(ChargeAnswer::Approved(self.reference(&format!("{FLAKY_REFUND}{failures}"), request.key)))
            }
            TestToken::Ok
            | TestToken::Late
            | TestToken::Flaky(_)
            | TestToken::CrashOnce
            | TestToken::NoCourier => Ok(self.approved(request.key)),
        }
    }

    fn approved(&self, key: &str) -> ChargeAnswer {
        ChargeAnswer::Approved(self.reference("ch", key))
    }

    fn reference(&self, prefix: &str, key: &str) -> Reference {
        let digest = self.digest(&[b"reference", key.as_bytes()]);
        let hex: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        Reference::new(format!("{prefix}_{hex}"))
    }

    fn chance_of_failure(&self, key: &str, attempt: Try) -> Result<(), ProviderError> {
        let chance = self.chance(&[b"transient", key.as_bytes(), &attempt.failed.to_be_bytes()]);
        if chance >= self.settings.transient_rate {
            return Ok(());
        }
        let message = format!("the payment provider is unavailable (try {})", attempt.failed + 1);
        Err(ProviderError::Unavailable { code: "provider-unavailable", message })
    }

    /// A number from 0 up to, not including, 1 that depends on the seed and `parts` alone.
    fn chance(&self, parts: &[&[u8]]) -> f64 {
        let digest = self.digest(parts);
        let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        f64::from(number) / (f64::from(u32::MAX) + 1.0)
    }

    fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.settings.seed.to_be_bytes());
        for part in parts {
            hash.update([0]);
            hash.update(part);
        }
        hash.finalize().into()
    }

    async fn latency(&self, key: &str) {
        if self.chance(&[b"silent", key.as_bytes()]) < self.settings.silent_rate {
            std::future::pending::<()>().await;
        }
        if !self.settings.latency.is_zero() {
            tokio::time::sleep(self.settings.latency).await;
        }
    }
}

impl PaymentProvider for Simulated {
    async fn charge(&self, request: ChargeRequest<'_>) -> Result<ChargeAnswer, ProviderError> {
        let answer = self.charge_now(request);
        if let (Ok(ChargeAnswer::Approved(reference)), Some(book)) = (&answer, &self.book)
            && !book.charge(request.key, request.amount_cents, reference).await?
        {
            let message = "the charge was voided before it was made".to_owned();
            return Err(ProviderError::Permanent { code: "charge-voided", message });
        }
        self.latency(request.key).await;
        if request.token.and_then(TestToken::parse) == Some(Ok(TestToken::Late)) {
            std::future::pending::<()>().await;
        }
        answer
    }

    async fn refund(&self, request: RefundRequest<'_>) -> Result<Reference, ProviderError> {
        let flaky = request.charge.as_str().strip_prefix(FLAKY_REFUND).and_then(|rest| rest.split_once('_'));
        let failures = flaky.and_then(|(failures, _)| failures.parse().ok()).unwrap_or(0);
        if request.attempt.failed < failures {
            return Err(unavailable(request.attempt));
        }
        self.chance_of_failure(request.key, request.attempt)?;
        let refund = self.reference("re", request.key);
        if let Some(book) = &self.book {
            book.refund(request.charge_key, request.amount_cents, request.charge, &refund).await?;
        }
        self.latency(request.key).await;
        Ok(refund)
    }

    async fn void(&self, request: VoidRequest<'_>) -> Result<VoidAnswer, ProviderError> {
        self.chance_of_failure(request.refund, request.attempt)?;
        let answer = match &self.book {
            Some(book) => book.void(request.charge, &self.reference("re", request.refund)).await?,
            None => VoidAnswer::Nothing,
        };
        self.latency(request.refund).await;
        Ok(answer)
    }

    async fn charges(&self, after: &str, limit: i64) -> Result<Vec<ListedCharge>, ProviderError> {
        match &self.book {
            Some(book) => book.list(after, limit).await,
            None => {
                let message =
                    "the simulated provider keeps no list of charges: set PROVIDER_BOOK=true".to_owned();
                Err(ProviderError::Permanent { code: "no-charge-list", message })
            }
        }
    }
}

fn declined() -> ChargeAnswer {
    ChargeAnswer::Declined { reason: "the payment was declined by the provider".to_owned() }
}

/// What a token forces is about this payment: the provider is there.
fn unavailable(attempt: Try) -> ProviderError {
    ProviderError::Transient {
        code: "provider-unavailable",
        message: format!("the payment provider cannot take this payment now (try {})", attempt.failed + 1),
    }
}

#[cfg(test)]
mod tests;

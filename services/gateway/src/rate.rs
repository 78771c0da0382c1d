//! How many requests one caller may make.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chassis::http::Peer;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use tokio::time::Instant;

/// What is allowed, and what is left of it (draft-ietf-httpapi-ratelimit-headers).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Callers of whom something is remembered, before those are forgotten who have not asked for long enough.
const MANY: usize = 20_000;
/// That takes its time: it is not done more often than this.
const TIDY: Duration = Duration::from_secs(5);

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Who has said who they are.
    Subject(String),
    /// Who has not. Of IPv6 the network of a subscriber: 64 bits.
    Address(IpAddr),
    /// A caller without an address.
    Unknown,
}

type Limiter = RateLimiter<Caller, DefaultKeyedStateStore<Caller>, DefaultClock, StateInformationMiddleware>;

/// Counts requests. Cheap to clone.
#[derive(Clone)]
pub struct Rate(Option<Arc<Inner>>);

struct Inner {
    limiter: Limiter,
    policy: HeaderValue,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    hops: usize,
    tidied: Mutex<Instant>,
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.0.as_ref().map(|inner| (inner.per_second, inner.burst));
        f.debug_tuple("Rate").field(&limits).finish()
    }
}

/// What one request is told.
#[derive(Clone, Debug)]
pub struct Told {
    headers: [(HeaderName, HeaderValue); 2],
}

impl Told {
    /// Says it.
    pub fn on(self, headers: &mut HeaderMap) {
        headers.extend(self.headers);
    }
}

impl Rate {
    /// `per_second` on average, and `burst` at a time; no limit where the first is 0. Of `hops` proxies in front each has noted whom
    /// it was asked by.
    pub fn new(per_second: u32, burst: u32, hops: usize) -> Self {
        let Some(per_second) = NonZeroU32::new(per_second) else { return Self(None) };
        let burst = NonZeroU32::new(burst).unwrap_or(per_second);
        let limiter: DefaultKeyedRateLimiter<Caller> =
            RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst));
        let window = (f64::from(burst.get()) / f64::from(per_second.get())).ceil();
        let policy = HeaderValue::from_str(&format!("\"caller\";q={burst};w={window}"));
        let policy = policy.expect("figures are visible");
        Self(Some(Arc::new(Inner {
            limiter: limiter.with_middleware(),
            policy,
            per_second,
            burst,
            hops,
            tidied: Mutex::new(Instant::now()),
        })))
    }

    /// Who asks, where they have not said it.
    pub fn address(&self, peer: Option<Peer>, headers: &HeaderMap) -> Caller {
        let hops = self.0.as_ref().map_or(0, |inner| inner.hops);
        let peer = peer.map(|Peer(address)| address.ip());
        let address = match hops {
            0 => peer,
            // Whoever comes past the proxies, or through one that notes nothing that can be read, is who connects.
            hops => forwarded(headers, hops).or(peer),
        };
        address.map_or(Caller::Unknown, |address| Caller::Address(network(address)))
    }

    /// Counts a request: what it is told, and, where it is one too many, after what time there may be another.
    pub fn count(&self, caller: &Caller) -> Option<(Told, Option<Duration>)> {
        let inner = self.0.as_ref()?;
        inner.tidy();
        let (left, wait) = match inner.limiter.check_key(caller) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(not_until) => (0, Some(not_until.wait_time_from(DefaultClock::default().now()))),
        };
        let full_in = f64::from(inner.burst.get().saturating_sub(left)) / f64::from(inner.per_second.get());
        let reset = wait.map_or(full_in, |wait| wait.as_secs_f64()).ceil().max(1.0);
        let left =
            HeaderValue::from_str(&format!("\"caller\";r={left};t={reset}")).expect("figures are visible");
        Some((Told { headers: [(POLICY, inner.policy.clone()), (LEFT, left)] }, wait))
    }
}

impl Inner {
    fn tidy(&self) {
        if self.limiter.len() < MANY {
            return;
        }
        let Ok(mut tidied) = self.tidied.try_lock() else { return };
        if tidied.elapsed() >= TIDY {
            *tidied = Instant::now();
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
    }
}

/// The address that the outermost of our own proxies has noted: whatever stands before it a caller may have made up.
fn forwarded(headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    let said = headers.get_all(FORWARDED).iter().filter_map(|value| value.to_str().ok());
    let noted: Vec<&str> = said.flat_map(|value| value.split(',')).map(str::trim).collect();
    let noted = noted.get(noted.len().checked_sub(hops)?)?;
    // Some note the port too, and brackets around what has colons.
    let address = noted.parse().ok();
    address
        .or_else(|| noted.parse().ok().map(|address: SocketAddr| address.ip()))
        .or_else(|| noted.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        Caller::Subject(name.into())
    }

    #[test]
    fn each_caller_has_a_burst_and_is_told_what_is_left() {
        let rate = Rate::new(1, 3, 0);
        let mut last = HeaderMap::new();
        for _ in 0..3 {
            let (told, wait) = rate.count(&caller("kim")).expect("a limit");
            assert_eq!(wait, None);
            last.clear();
            told.on(&mut last);
        }
        assert_eq!(last[POLICY], "\"caller\";q=3;w=3");
        assert_eq!(last[LEFT], "\"caller\";r=0;t=3");
        let (told, wait) = rate.count(&caller("kim")).expect("a limit");
        assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(1)));
        last.clear();
        told.on(&mut last);
        assert_eq!(last[LEFT], "\"caller\";r=0;t=1");
        assert_eq!(rate.count(&caller("lou")).expect("a limit").1, None, "others are not held up");
        assert!(Rate::new(0, 9, 0).count(&caller("kim")).is_none());
    }

    #[test]
    fn an_address_is_the_peers_or_what_our_own_proxies_have_noted() {
        let peer = |text: &str| Some(Peer(text.parse().expect("an address")));
        let of = |text: &str| Caller::Address(text.parse().expect("an address"));
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED, "6.6.6.6, 7.7.7.7".parse().expect("a value"));
        headers.append(FORWARDED, "8.8.8.8".parse().expect("a value"));
        let direct = Rate::new(1, 1, 0);
        assert_eq!(direct.address(peer("10.0.0.1:5"), &headers), of("10.0.0.1"));
        assert_eq!(direct.address(peer("[2001:db8:1:2:3::9]:5"), &headers), of("2001:db8:1:2::"));
        assert_eq!(direct.address(peer("[::ffff:10.0.0.1]:5"), &headers), of("10.0.0.1"));
        assert_eq!(direct.address(None, &headers), Caller::Unknown);
        assert_eq!(Rate::new(1, 1, 1).address(peer("10.0.0.1:5"), &headers), of("8.8.8.8"));
        assert_eq!(Rate::new(1, 1, 2).address(peer("10.0.0.1:5"), &headers), of("7.7.7.7"));
        assert_eq!(Rate::new(1, 1, 9).address(peer("10.0.0.1:5"), &headers), of("10.0.0.1"));
        for (noted, address) in [
            ("1.2.3.4:567", "1.2.3.4"),
            ("[2001:db8::1]:5", "2001:db8::"),
            ("[2001:db8::1]", "2001:db8::"),
            ("2001:db8::1", "2001:db8::"),
            ("unknown", "10.0.0.1"),
        ] {
            headers.insert(FORWARDED, noted.parse().expect("a value"));
            assert_eq!(Rate::new(1, 1, 1).address(peer("10.0.0.1:5"), &headers), of(address), "{noted}");
        }
    }
}

//! Lines that say what is being waited for, for anything over two seconds.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

/// Awaits `work`; once it has taken 2 s, and every 5 s from then on, says that it is still `doing` it.
pub async fn during<T>(doing: &str, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let mut work = pin!(work);
    let mut next = Duration::from_secs(2);
    loop {
        match tokio::time::timeout(next, &mut work).await {
            Ok(done) => return done,
            Err(_) => eprintln!("  … {doing} ({} s)", start.elapsed().as_secs()),
        }
        next = Duration::from_secs(5);
    }
}

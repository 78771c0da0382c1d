//! The toy's handler.

use std::{
    collections::HashMap,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actors::{
    Attempt, Breaker, Cause, Change, Death, Decision, Decoded, Emit, Event, Failure, Handler, Headers,
    LoadResult, Loaded, Lock, Record, Rejection, SaveError, SaveResult,
};
use deadpool_postgres::GenericClient;
use serde::Deserialize;
use uuid::Uuid;

/// What a test can turn on and off, and see.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    /// The toy's provider is down.
    pub(crate) provider_down: AtomicBool,
    /// External calls made.
    pub(crate) calls: AtomicU32,
    /// External calls by event.
    pub(crate) called: Mutex<HashMap<Uuid, u32>>,
    /// Permanent failures pass.
    pub(crate) forgiving: AtomicBool,
    /// External calls fail for every key, for now.
    pub(crate) all_fail: AtomicBool,
    /// External calls fail for this key, for now.
    pub(crate) one_fails: Mutex<Option<String>>,
    /// The provider's breaker, where it has one.
    pub(crate) breaker: OnceLock<Breaker>,
    /// External calls fail for so many in ten keys.
    pub(crate) sick_tenths: AtomicU64,
    /// External calls take so long, in milliseconds.
    pub(crate) latency_ms: AtomicU64,
    /// External calls for this key are not answered within two seconds.
    pub(crate) silent: Mutex<Option<String>>,
    /// When an event was last decided to be applied.
    pub(crate) applied: Mutex<HashMap<Uuid, Instant>>,
    /// How old a `not-yet` event is when the toy gives it up, in milliseconds.
    pub(crate) patience_ms: AtomicU64,
    /// A `deadly` event ends the process, without a word.
    pub(crate) deadly: AtomicBool,
}

/// The death of an event that brings it panics, too.
pub(crate) const UNSPEAKABLE: i64 = -666;
/// A list that holds it can never be saved.
pub(crate) const HEAVY: i64 = -500;
/// A list that holds it cannot be saved until the toy is forgiving.
pub(crate) const BUSY: i64 = -501;
/// A list that holds it cannot be read.
pub(crate) const UNREADABLE: i64 = -404;

/// Appends numbers to lists.
pub(crate) struct Toy {
    switches: std::sync::Arc<Switches>,
    out: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Body {
    id: Uuid,
    key: String,
    n: i64,
    mode: String,
}

impl Toy {
    pub(crate) fn new(switches: std::sync::Arc<Switches>, out: &str) -> Self {
        Self { switches, out: out.to_owned() }
    }
}

impl Toy {
    /// A provider that takes its time, is silent for one, or fails for some, or for all.
    async fn provider(&self, attempt: &Attempt, body: &Body) -> Result<(), Failure> {
        let call = self.switches.breaker.get().map(|breaker| breaker.enter(attempt)).transpose()?;
        let latency = Duration::from_millis(self.switches.latency_ms.load(Ordering::Relaxed));
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let silent = self.switches.silent.lock().expect("not poisoned").as_ref() == Some(&body.key);
        if silent {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let number: u64 = body.key.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let sick = number % 10 < self.switches.sick_tenths.load(Ordering::Relaxed);
        match call {
            Some(call) if sick || silent => Err(call.failed(Cause::new("status-500", "the provider fails"))),
            None if sick || silent => Err(Failure::transient("status-500", "the provider fails")),
            Some(call) => {
                call.answered();
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Handler for Toy {
    type Body = Body;
    type Key = String;
    type State = Vec<i64>;
    type Shared = ();
    type Prepared = ();

    fn name(&self) -> &'static str {
        "toy"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Body>, Rejection> {
        let body: Body = serde_json::from_slice(record.value.as_deref().unwrap_or_default())
            .map_err(|error| Rejection::Poison(Cause::from_error("not-json", &error)))?;
        if body.mode == "ignored" {
            return Ok(Decoded::Ignored);
        }
        Ok(Decoded::Event(Event {
            id: body.id,
            event_type: "APPEND".into(),
            correlation_id: format!("c-{}", body.key),
            body,
        }))
    }

    fn key(&self, body: &Body) -> String {
        body.key.clone()
    }

    fn needs_prepare(&self, body: &Body) -> bool {
        body.mode == "call"
    }

    async fn prepare(&self, attempt: &Attempt, body: &Body, _: Option<&Vec<i64>>) -> Result<(), Failure> {
        self.switches.calls.fetch_add(1, Ordering::Relaxed);
        *self.switches.called.lock().expect("not poisoned").entry(attempt.event_id).or_default() += 1;
        if self.switches.provider_down.load(Ordering::Relaxed) {
            return Err(Failure::unreachable("provider-down", "the toy's provider is down"));
        }
        self.provider(attempt, body).await?;
        let this_one = self.switches.one_fails.lock().expect("not poisoned").as_ref() == Some(&body.key);
        if this_one || self.switches.all_fail.load(Ordering::Relaxed) {
            return Err(Failure::transient("provider-fails", format!("the provider fails for {}", body.n)));
        }
        Ok(())
    }

    async fn load<C: GenericClient>(&self, client: &C, keys: &[String], lock: Lock) -> LoadResult<Self> {
        let query = match lock {
            Lock::None => "SELECT key, list FROM lists WHERE key = ANY($1)",
            Lock::ForUpdate => "SELECT key, list FROM lists WHERE key = ANY($1) ORDER BY key FOR UPDATE",
        };
        let statement = client.prepare_cached(query).await?;
        let rows = client.query(&statement, &[&keys]).await?;
        let mut loaded = Loaded::new(HashMap::new(), ());
        for row in rows {
            let (key, list): (String, Vec<i64>) = (row.get(0), row.get(1));
            if list.contains(&UNREADABLE) {
                loaded.unreadable.insert(key, Cause::new("toy", "a number that is none"));
            } else {
                loaded.states.insert(key, list);
            }
        }
        Ok(loaded)
    }

    fn decide(
        &self,
        attempt: &Attempt,
        body: &Body,
        state: Option<&Vec<i64>>,
        (): &mut (),
        _: Option<&()>,
    ) -> Result<Decision<Vec<i64>>, Failure> {
        let mut given_up = false;
        match body.mode.split_once(':').unwrap_or((&body.mode, "")) {
            ("flaky", times) if attempt.failed_attempts < times.parse().expect("flaky:N") => {
                return Err(Failure::transient(
                    "flaky",
                    format!("attempt {} fails", attempt.failed_attempts + 1),
                ));
            }
            ("down", _) => return Err(Failure::transient("down", "never works")),
            ("permanent", _) if !self.switches.forgiving.load(Ordering::Relaxed) => {
                return Err(Failure::permanent("refused", format!("number {} is refused", body.n)));
            }
            ("mourned", _) if !self.switches.forgiving.load(Ordering::Relaxed) => {
                return Err(Failure::permanent("refused", format!("number {} is refused", body.n)));
            }
            ("mourned", _) => return Ok(Decision::moot("the toy is put away")),
            ("not-yet", _) if !self.switches.forgiving.load(Ordering::Relaxed) => {
                let patience = Duration::from_millis(self.switches.patience_ms.load(Ordering::Relaxed));
                if attempt.age < patience {
                    return Err(Failure::not_yet("waits", "the toy waits"));
                }
                given_up = true;
            }
            ("deadly", _) if self.switches.deadly.load(Ordering::Relaxed) => std::process::abort(),
            ("forget", _) => return Ok(Decision::delete()),
            ("panic", _) => panic!("the toy panics on {}", body.n),
            ("panic-once", _) if attempt.crashes == 0 => panic!("the toy panics once on {}", body.n),
            _ => {}
        }
        let mut list = state.cloned().unwrap_or_default();
        list.push(if given_up { -body.n } else { body.n });
        self.switches.applied.lock().expect("not poisoned").insert(attempt.event_id, Instant::now());
        let said = serde_json::json!({"id": body.id, "key": body.key, "n": body.n});
        let emit = Emit {
            topic: self.out.clone(),
            key: Some(body.key.clone().into_bytes()),
            value: Some(said.to_string().into_bytes()),
            headers: Headers::new(),
        };
        Ok(Decision { state: Change::Save(list), emit: vec![emit], ..Decision::nothing() })
    }

    fn buried(&self, body: &Body, death: &Death<'_>) -> Vec<Emit> {
        let Death { dead_letter_id, code, generation, .. } = death;
        let said = serde_json::json!({"dead": dead_letter_id, "code": code, "generation": generation});
        let emit = Emit {
            topic: self.out.clone(),
            key: Some(body.key.clone().into_bytes()),
            value: Some(said.to_string().into_bytes()),
            headers: Headers::new(),
        };
        match &*body.mode {
            "mourned" => vec![emit],
            "panic" if body.n == UNSPEAKABLE => panic!("the toy panics at the grave of {}", body.n),
            _ => Vec::new(),
        }
    }

    async fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(String, Vec<i64>)>,
        (): (),
    ) -> SaveResult<Self> {
        let heavy = |list: &Vec<i64>| -> Option<Failure> {
            let forgiving = self.switches.forgiving.load(Ordering::Relaxed);
            match () {
                () if list.contains(&HEAVY) => Some(Failure::permanent("too-heavy", "the list is too heavy")),
                () if list.contains(&BUSY) && !forgiving => {
                    Some(Failure::transient("busy", "the list is busy"))
                }
                () => None,
            }
        };
        let refused: HashMap<_, _> =
            changed.iter().filter_map(|(key, list)| Some((key.clone(), heavy(list)?))).collect();
        if !refused.is_empty() {
            return Err(SaveError::Keys(refused));
        }
        let statement = client
            .prepare_cached(
                "INSERT INTO lists (key, list) SELECT c.key, string_to_array(c.list, ',')::bigint[]
                 FROM unnest($1::text[], $2::text[]) AS c (key, list)
                 ON CONFLICT (key) DO UPDATE SET list = excluded.list",
            )
            .await?;
        let (keys, lists): (Vec<String>, Vec<Vec<i64>>) = changed.into_iter().unzip();
        let join = |list: &Vec<i64>| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let lists: Vec<String> = lists.iter().map(join).collect();
        client.execute(&statement, &[&keys, &lists]).await?;
        Ok(())
    }

    async fn delete<C: GenericClient>(&self, client: &C, keys: &[String]) -> SaveResult<Self> {
        client.execute("DELETE FROM lists WHERE key = ANY($1)", &[&keys]).await?;
        Ok(())
    }
}

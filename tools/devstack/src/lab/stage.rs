//! What a lab stands on: a stack, and somebody in front of each server who can cut its connections.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::sync::{Mutex, MutexGuard};

use super::fault::LINKS;
use crate::{
    clients::gateway::Gateway,
    os::{
        process::{ProcessId, working_in},
        proxy::Proxy,
    },
    servers::postgres,
    stack::{GatewayPort, Stack, Up},
    topology::{DATABASES, KAFKA_BROKERS, ORDERS_URL, REDIS_URL, Role, SERVICES},
};

/// A process that is to run again runs in this time, whatever else is gone.
const BACK: Duration = Duration::from_secs(90);

/// A running stack, for everybody who does something to it or asks it.
#[derive(Debug)]
pub struct Stage {
    stack: Mutex<Stack>,
    proxies: BTreeMap<Role, Proxy>,
    pub(super) gateway: Gateway,
    /// Addresses that stay what they are, by the variable's name.
    urls: BTreeMap<String, String>,
    pub(super) admin: Vec<(Role, String)>,
    pub(super) postgres_data: PathBuf,
}

impl Stage {
    /// A private stack whose services reach Kafka, PostgreSQL, Redis and each other through somebody who can cut them off.
    ///
    /// # Errors
    /// When it cannot be started; nothing of it runs then.
    pub async fn start() -> Result<Self> {
        let mut proxies = BTreeMap::new();
        for role in LINKS {
            proxies.insert(role, Proxy::start().await?);
        }
        let mut stack = Stack::private(GatewayPort::Any, &[])?;
        match Self::bring_up(&mut stack, &proxies).await {
            Ok(()) => Self::with(stack, proxies),
            Err(error) => {
                stack.discard().await.context("what was started cannot be ended")?;
                Err(error)
            }
        }
    }

    async fn bring_up(stack: &mut Stack, proxies: &BTreeMap<Role, Proxy>) -> Result<()> {
        let port = |role| proxies.get(&role).map(Proxy::port).context("nobody stands in front of it");
        let (postgres, redis) = (port(Role::Postgres)?, port(Role::Redis)?);
        for service in SERVICES {
            if let Some(database) = service.database {
                stack.set_variable(service.role, database.variable, &postgres::url(postgres, database.name));
            }
            if service.reads.contains(&REDIS_URL) {
                stack.set_variable(service.role, REDIS_URL, &format!("redis://127.0.0.1:{redis}"));
            }
        }
        stack.set_variable(Role::Gateway, ORDERS_URL, &format!("http://127.0.0.1:{}", port(Role::Orders)?));
        stack.set_kafka_front(port(Role::Kafka)?);
        stack.up(&Up { servers_only: true, ..Up::default() }).await?;
        Self::hand_on(stack, proxies, &Role::SERVERS)?;
        // Before the gateway, which asks for it: it has its port then.
        stack.start(Role::Orders, 1).await?;
        Self::hand_on(stack, proxies, &[Role::Orders])?;
        stack.up(&Up::default()).await.map(drop)
    }

    fn hand_on(stack: &Stack, proxies: &BTreeMap<Role, Proxy>, roles: &[Role]) -> Result<()> {
        for (role, proxy) in proxies.iter().filter(|(role, _)| roles.contains(role)) {
            let port = stack.state().entry(*role, 1).and_then(|entry| entry.port);
            proxy.hand_on_to(port.with_context(|| format!("{role} has no port"))?);
        }
        Ok(())
    }

    /// A stack that serves, with nobody between: its network cannot be cut.
    ///
    /// # Errors
    /// When it was never started.
    pub fn on(stack: Stack) -> Result<Self> {
        Self::with(stack, BTreeMap::new())
    }

    fn with(stack: Stack, proxies: BTreeMap<Role, Proxy>) -> Result<Self> {
        let names = DATABASES.map(|database| database.variable).into_iter().chain([KAFKA_BROKERS, REDIS_URL]);
        let urls = names.map(|name| Ok((name.to_owned(), stack.url(name)?.to_owned())));
        let admin = SERVICES.map(|service| Ok((service.role, stack.admin_url(service.role, 1)?)));
        Ok(Self {
            gateway: Gateway::new(stack.gateway_url()?, 64)?,
            urls: urls.collect::<Result<_>>()?,
            admin: admin.into_iter().collect::<Result<_>>()?,
            postgres_data: stack.home(Role::Postgres).data(),
            stack: Mutex::new(stack),
            proxies,
        })
    }

    /// The stack as it is now. Whoever has it in hand is the only one who starts and ends processes.
    pub(super) async fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().await
    }

    /// The same, if nobody has it in hand.
    pub(super) fn idle_stack(&self) -> Option<MutexGuard<'_, Stack>> {
        self.stack.try_lock().ok()
    }

    /// A copy of what is known of the stack, for whoever only asks it.
    pub(super) async fn snapshot(&self) -> Stack {
        self.stack.lock().await.clone()
    }

    /// The address of a server, with nobody between but at Kafka's.
    pub(super) fn url(&self, variable: &str) -> Result<&str> {
        self.urls.get(variable).map(String::as_str).with_context(|| format!("{variable} is not known"))
    }

    /// Who stands in front of it.
    pub(super) fn proxy(&self, role: Role) -> Result<&Proxy> {
        self.proxies
            .get(&role)
            .with_context(|| format!("nobody stands in front of {role} here, who could cut it off"))
    }

    /// All processes of a role: PostgreSQL has one for each connection.
    pub(super) async fn processes(&self, role: Role) -> Result<Vec<ProcessId>> {
        match role {
            Role::Postgres => Ok(working_in(&self.postgres_data)),
            _ => Ok(vec![self.stack().await.process(role, 1)?]),
        }
    }

    /// Ends all of it, and removes what it kept.
    ///
    /// # Errors
    /// When something of it does not end.
    pub async fn discard(self) -> Result<()> {
        self.stack.into_inner().discard().await
    }

    /// The stack, for others.
    pub fn into_stack(self) -> Stack {
        self.stack.into_inner()
    }
}

/// Starts a process, as an orchestrator does: again, where it ends since what it needs is not there yet.
///
/// # Errors
/// When it does not serve after a minute and a half.
pub(super) async fn bring_back(stack: &mut Stack, role: Role) -> Result<()> {
    let start = Instant::now();
    loop {
        match stack.start(role, 1).await {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > BACK => return Err(error),
            // Its server may be away too.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

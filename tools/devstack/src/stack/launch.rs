//! How each process of a stack is started, and known to serve.

use std::{collections::BTreeMap, env, time::Duration};

use anyhow::{Context, Result, bail};

use super::{Stack, state::ProcessEntry};
use crate::{
    os::{
        launch::{Launch, start},
        paths,
        process::ProcessId,
    },
    servers::{kafka, postgres, redis, until_ready},
    topology::{self, RATE_LIMIT, REDIS_URL, Role, STREAMS_PER_CALLER, TEST_TOKENS},
};

/// Time a service is given to start: migrations, topics, joining its group.
const SERVICE_READY: Duration = Duration::from_secs(60);

impl Stack {
    /// Starts an instance on the ports it had, or new ones. It runs when this returns; [`Self::wait_ready`] says when it
    /// serves.
    pub(super) async fn launch(&self, entry: &ProcessEntry) -> Result<ProcessId> {
        let lifetime = self.settings.lifetime;
        let port = || entry.port.context("no port");
        let second = || entry.second_port.context("no port");
        match entry.role {
            Role::Kafka => {
                let sasl = entry.sasl_port.context("no port")?;
                let advertised = self.kafka_port().context("no port")?;
                let ports = kafka::Ports { plain: port()?, advertised, sasl, controller: second()? };
                kafka::launch(&self.home(entry.role), ports, lifetime).await
            }
            Role::Postgres => postgres::launch(&self.home(entry.role), port()?, lifetime).await,
            Role::Redis => redis::launch(&self.home(entry.role), port()?, lifetime),
            _ => self.launch_service(entry),
        }
        .with_context(|| format!("{} cannot be started", entry.label()))
    }

    fn launch_service(&self, entry: &ProcessEntry) -> Result<ProcessId> {
        let service = entry.role.service().context("a server is no service")?;
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for name in service.reads.iter().copied().chain(service.database.map(|database| database.variable)) {
            let given = || env::var(name).ok().filter(|_| !self.settings.hermetic);
            let value = match name {
                TEST_TOKENS => given().unwrap_or_else(|| "true".into()),
                // All that is asked of a stack is asked by one machine.
                RATE_LIMIT | STREAMS_PER_CALLER => given().unwrap_or_else(|| "0".into()),
                topology::ORDERS_URL => {
                    let orders = self.state.entry(Role::Orders, 1).and_then(ProcessEntry::address);
                    format!("http://{}", orders.context("the orders service has no address")?)
                }
                _ => self.url(name)?.to_owned(),
            };
            variables.insert(name.into(), value);
        }
        let listen = |port: Option<u16>| port.map(|port| format!("127.0.0.1:{port}"));
        variables.extend(listen(entry.port).map(|at| (topology::HTTP_LISTEN.to_owned(), at)));
        variables.extend(listen(entry.second_port).map(|at| (topology::ADMIN_LISTEN.to_owned(), at)));
        let own = self.settings.variables.iter().filter(|(role, ..)| *role == entry.role);
        variables.extend(own.map(|(_, name, value)| (name.clone(), value.clone())));
        let binary = self.binaries.join(entry.role.name());
        if !binary.is_file() {
            // Says where it looked and what to do.
            paths::binaries()?;
        }
        let launch = Launch {
            command: vec![binary.display().to_string()],
            variables: variables.into_iter().collect(),
            hermetic: self.settings.hermetic,
            directory: self.dir.clone(),
            log: self.log(entry.role, entry.instance),
            death: "KILL",
            user: None,
        };
        start(&launch, self.settings.lifetime)
    }

    /// Waits until an instance serves: a server answers, a service's `/readyz` says 200.
    pub(super) async fn wait_ready(&self, entry: &ProcessEntry) -> Result<()> {
        let home = self.home(entry.role);
        let process = entry.process;
        match entry.role {
            Role::Kafka => {
                let broker = format!("127.0.0.1:{}", entry.port.context("no port")?);
                kafka::ready(&home, &broker, process).await
            }
            Role::Redis => redis::ready(&home, self.url(REDIS_URL)?, process).await,
            Role::Postgres => postgres::ready(&home, entry.port.context("no port")?, process).await,
            _ => {
                let url = format!("{}/readyz", entry.admin_url().context("no admin port")?);
                let log = self.log(entry.role, entry.instance);
                until_ready(&entry.label(), process, &log, SERVICE_READY, || async {
                    let answer = self.http.get(&url).send().await?;
                    let status = answer.status();
                    if !status.is_success() {
                        bail!("/readyz says {status}: {}", answer.text().await?.trim());
                    }
                    Ok(())
                })
                .await
            }
        }
    }
}

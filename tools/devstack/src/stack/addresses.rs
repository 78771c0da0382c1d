//! Where everything of a stack is, for whoever uses it.

use std::{collections::BTreeMap, env};

use anyhow::{Context, Result};

use super::{Stack, state::ProcessEntry};
use crate::{
    servers::{kafka, postgres},
    topology::{self, DATABASES, GATEWAY_URL, KAFKA_BROKERS, REDIS_URL, Role},
};

impl Stack {
    /// The address of a server or database, by its variable's name.
    pub fn url(&self, variable: &str) -> Result<&str> {
        let url = self.state.urls.get(variable).map(String::as_str);
        url.with_context(|| {
            format!("{variable} is not known: the stack was never started; run `./dev up --detach`")
        })
    }

    /// The gateway's base URL.
    pub fn gateway_url(&self) -> Result<String> {
        let port = self.state.entry(Role::Gateway, 1).and_then(|entry| entry.port);
        Ok(format!(
            "http://127.0.0.1:{}",
            port.context("the gateway was never started; run `./dev up --detach`")?
        ))
    }

    /// A service's admin URL.
    pub fn admin_url(&self, role: Role, instance: u32) -> Result<String> {
        let url = self.state.entry(role, instance).and_then(ProcessEntry::admin_url);
        url.with_context(|| format!("{role} was never started; run `./dev up --detach`"))
    }

    /// The variables that tell a program where everything is.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables = self.state.urls.clone();
        if let Ok(url) = self.gateway_url() {
            variables.insert(GATEWAY_URL.into(), url);
        }
        for entry in &self.state.entries {
            if let Some(url) = entry.admin_url() {
                variables.insert(topology::admin_variable(entry.role, entry.instance), url);
            }
        }
        variables
    }

    /// The variables that tests and benches need to use the servers: where they are, PostgreSQL as its
    /// superuser, and what their TLS needs.
    pub fn test_environment(&self) -> Result<BTreeMap<String, String>> {
        let port = self.state.entry(Role::Postgres, 1).and_then(|entry| entry.port);
        let mut variables = self.state.urls.clone();
        let url = postgres::url(port.context("PostgreSQL was never started")?, "postgres");
        variables.insert(topology::TEST_POSTGRES_URL.into(), url);
        let sasl = self.state.entry(Role::Kafka, 1).and_then(|entry| entry.sasl_port);
        let sasl = format!("127.0.0.1:{}", sasl.context("Kafka was never started")?);
        variables.insert(topology::TEST_KAFKA_SASL_BROKERS.into(), sasl);
        let files = [
            (topology::TEST_KAFKA_CONFIG_FILE, kafka::client_file(&self.home(Role::Kafka))),
            (topology::TEST_POSTGRES_ROOT_CERT, postgres::root_certificate(&self.home(Role::Postgres))),
        ];
        variables.extend(files.map(|(name, path)| (name.to_owned(), path.display().to_string())));
        Ok(variables)
    }

    /// The port by which clients know Kafka.
    pub(super) fn kafka_port(&self) -> Option<u16> {
        self.settings.kafka_front.or_else(|| self.state.entry(Role::Kafka, 1)?.port)
    }

    /// Notes where the servers are: ours, or those the caller's variables name.
    pub(super) fn note_urls(&mut self) {
        let server_port = |role| self.state.entry(role, 1).and_then(|entry: &ProcessEntry| entry.port);
        let mut ours: Vec<(&str, Option<String>)> = vec![
            (KAFKA_BROKERS, self.kafka_port().map(|port| format!("127.0.0.1:{port}"))),
            (REDIS_URL, server_port(Role::Redis).map(|port| format!("redis://127.0.0.1:{port}"))),
        ];
        let postgres = server_port(Role::Postgres);
        ours.extend(
            DATABASES
                .map(|database| (database.variable, postgres.map(|port| postgres::url(port, database.name)))),
        );
        for (variable, url) in ours {
            if self.state.external.contains(variable) {
                continue;
            }
            if let Some(url) = url {
                self.state.urls.insert(variable.into(), url);
            }
        }
    }

    /// Takes note of servers that others run for us: those the caller's variables name, unless they name our own, as they do
    /// after `eval "$(./dev env)"`.
    pub(super) fn note_external(&mut self) {
        if self.settings.hermetic {
            return;
        }
        let variables =
            [KAFKA_BROKERS, REDIS_URL].into_iter().chain(DATABASES.map(|database| database.variable));
        for variable in variables {
            match env::var(variable).ok().filter(|value| !value.is_empty()) {
                Some(value) if self.state.urls.get(variable) != Some(&value) => {
                    self.state.external.insert(variable.into());
                    self.state.urls.insert(variable.into(), value);
                }
                _ => {}
            }
        }
    }
}

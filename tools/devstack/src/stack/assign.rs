//! Which ports a process is given: those it had, so that what people noted of them stays true, while nobody else has them.

use anyhow::{Result, bail};

use super::{GatewayPort, Stack, state::ProcessEntry};
use crate::{
    os::ports,
    topology::{GATEWAY_PORT, KAFKA_BROKERS, ORDERS_URL, REDIS_URL, Role},
};

impl Stack {
    /// Gives those that do not run their ports. A port that is taken is replaced by a free one, which is said, unless processes
    /// that run know it.
    ///
    /// # Errors
    /// When the gateway's port was named and is taken, or when a port cannot be replaced. Nothing was started.
    pub(super) fn assign_ports(&mut self, wanted: &[(Role, u32)]) -> Result<()> {
        let runs = |one: &&(Role, u32)| self.state.entry(one.0, one.1).is_some_and(ProcessEntry::is_running);
        let mut missing: Vec<(Role, u32)> = wanted.iter().filter(|one| !runs(one)).copied().collect();
        // A port that was named may be one that another of ours had.
        missing.sort_by_key(|(role, _)| *role != Role::Gateway);
        for (role, instance) in missing {
            let service = role.service();
            let had = self.state.entry_mut(role, instance).clone();
            let port = match service {
                Some(service) if service.http_port.is_none() => None,
                _ => Some(self.serving(&had)?),
            };
            let kafka = role == Role::Kafka;
            let second =
                if service.is_some() || kafka { Some(self.kept(&had, had.second_port)?) } else { None };
            let sasl = if kafka { Some(self.kept(&had, had.sasl_port)?) } else { None };
            let entry = self.state.entry_mut(role, instance);
            (entry.port, entry.second_port, entry.sasl_port) = (port, second, sasl);
        }
        Ok(())
    }

    /// The port by which others know a process.
    fn serving(&self, had: &ProcessEntry) -> Result<u16> {
        match self.settings.gateway_port {
            GatewayPort::Exactly(port) if had.role == Role::Gateway => {
                // One that another of ours had and does not serve on now is given to the gateway.
                if !ports::is_free(port) {
                    bail!("port {port} is taken by another program; give the gateway another with --port");
                }
                return Ok(port);
            }
            GatewayPort::Usual
                if had.role == Role::Gateway
                    && had.port.is_none()
                    && self.is_available(GATEWAY_PORT, had) =>
            {
                return Ok(GATEWAY_PORT);
            }
            _ => {}
        }
        if let Some(port) = had.port.filter(|port| !self.is_available(*port, had)) {
            let knowing = self.knowing(had);
            if !knowing.is_empty() {
                bail!(
                    "port {port}, which {} had, is taken by another program, and {} know it by that port: run `./dev down` \
                     and `./dev up` again",
                    had.label(),
                    knowing.join(", ")
                );
            }
        }
        self.kept(had, had.port)
    }

    /// `port`, which an instance had, if nobody else has it; else a free one.
    fn kept(&self, had: &ProcessEntry, port: Option<u16>) -> Result<u16> {
        if let Some(port) = port.filter(|port| self.is_available(*port, had)) {
            return Ok(port);
        }
        let free = ports::free()?;
        if let Some(port) = port {
            eprintln!("port {port}, which {} had, is taken by another program: it gets {free}", had.label());
        }
        Ok(free)
    }

    /// Whether nothing listens on `port` and no other of our processes is to.
    fn is_available(&self, port: u16, one: &ProcessEntry) -> bool {
        let mut others = self
            .state
            .entries
            .iter()
            .filter(|other| (other.role, other.instance) != (one.role, one.instance));
        let is_theirs =
            |other: &ProcessEntry| [other.port, other.second_port, other.sasl_port].contains(&Some(port));
        ports::is_free(port) && !others.any(is_theirs)
    }

    /// Those that run and were told the port of `entry` when they started.
    fn knowing(&self, entry: &ProcessEntry) -> Vec<String> {
        let reads =
            |role: Role, variable| role.service().is_some_and(|service| service.reads.contains(&variable));
        let knows = |role: Role| match entry.role {
            Role::Kafka => reads(role, KAFKA_BROKERS),
            Role::Redis => reads(role, REDIS_URL),
            Role::Postgres => role.service().is_some_and(|service| service.database.is_some()),
            Role::Orders => entry.instance == 1 && reads(role, ORDERS_URL),
            _ => false,
        };
        let running = self.state.entries.iter().filter(|other| other.is_running() && knows(other.role));
        running.map(ProcessEntry::label).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::{
        os::{launch::Lifetime, process::ProcessId},
        stack::Settings,
    };

    /// A stack that was stopped, whose processes have the ports they had; nothing of it runs.
    fn stopped(gateway_port: GatewayPort) -> (tempfile::TempDir, Stack) {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = Settings {
            lifetime: Lifetime::Attached,
            hermetic: true,
            gateway_port,
            kafka_front: None,
            variables: Vec::new(),
        };
        let mut stack =
            Stack::at(dir.path().to_owned(), dir.path().to_owned(), settings, false).expect("a stack");
        assign(&mut stack).expect("all are free");
        (dir, stack)
    }

    fn assign(stack: &mut Stack) -> Result<()> {
        stack.assign_ports(&stack.state.wanted())
    }

    fn port(stack: &Stack, role: Role) -> u16 {
        stack.state.entry(role, 1).and_then(|entry| entry.port).expect("it serves on one")
    }

    fn take(port: u16) -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free")
    }

    #[test]
    fn ports_stay_and_one_that_another_program_took_is_replaced_alone() {
        let (_dir, mut stack) = stopped(GatewayPort::Any);
        let before = stack.state.clone();
        assign(&mut stack).expect("assigned");
        assert_eq!(stack.state, before, "the same again");

        let had = port(&stack, Role::Gateway);
        let _taken = take(had);
        // The servers under it were started before.
        for role in Role::SERVERS {
            stack.state.entry_mut(role, 1).process = ProcessId::current();
        }
        let servers = stack.state.clone();
        assign(&mut stack).expect("nobody was told the gateway's port");
        assert_ne!(port(&stack, Role::Gateway), had);
        stack.state.entry_mut(Role::Gateway, 1).port = Some(had);
        assert_eq!(stack.state, servers, "nothing else has moved");
    }

    #[test]
    fn a_port_that_running_processes_know_is_not_replaced() {
        let (_dir, mut stack) = stopped(GatewayPort::Any);
        let had = port(&stack, Role::Kafka);
        let taken = take(had);
        stack.state.entry_mut(Role::Gateway, 1).process = ProcessId::current();
        stack.assign_ports(&[(Role::Kafka, 1)]).expect("the gateway knows nothing of Kafka");
        assert_ne!(port(&stack, Role::Kafka), had);
        drop(taken);

        let _taken = take(port(&stack, Role::Kafka));
        stack.state.entry_mut(Role::Payments, 1).process = ProcessId::current();
        let error = stack.assign_ports(&[(Role::Kafka, 1)]).expect_err("payments knows it").to_string();
        assert!(error.contains("kafka had") && error.contains("payments know it"), "{error}");

        let _taken = take(port(&stack, Role::Orders));
        let error = stack.assign_ports(&[(Role::Orders, 1)]).expect_err("the gateway knows it").to_string();
        assert!(error.contains("orders had") && error.contains("gateway know it"), "{error}");
    }

    #[test]
    fn a_port_that_is_named_wins_over_the_one_it_had_and_over_what_another_had() {
        let (_dir, mut stack) = stopped(GatewayPort::Any);
        let had = port(&stack, Role::Gateway);
        let _taken = take(had);
        let named = port(&stack, Role::Redis);
        stack.settings.gateway_port = GatewayPort::Exactly(named);
        assign(&mut stack).expect("it is free");
        assert_eq!(port(&stack, Role::Gateway), named);
        assert_ne!(port(&stack, Role::Redis), named, "Redis does not run: it goes elsewhere");

        stack.settings.gateway_port = GatewayPort::Exactly(had);
        let before = stack.state.clone();
        let error = assign(&mut stack).expect_err("it is taken").to_string();
        assert!(error.contains(&had.to_string()) && error.contains("--port"), "{error}");
        assert_eq!(stack.state, before);
    }
}

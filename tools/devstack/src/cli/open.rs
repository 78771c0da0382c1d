//! The project's own stack, as a command finds it.

use anyhow::{Result, bail};
use devstack::{
    os::launch::Lifetime,
    stack::{GatewayPort, RunState, Settings, Stack},
    topology::Role,
};

/// The service or server called so.
pub(super) fn parse_role(text: &str) -> Result<Role, String> {
    let known = || Role::ALL.map(Role::name).join(", ");
    Role::parse(text).ok_or_else(|| format!("there is no `{text}`, only {}", known()))
}

/// The stack as it was left, running or not.
pub(super) fn open(lifetime: Lifetime, port: Option<u16>) -> Result<Stack> {
    let gateway_port = port.map_or(GatewayPort::Usual, GatewayPort::Exactly);
    Stack::open(Settings {
        lifetime,
        hermetic: false,
        gateway_port,
        kafka_front: None,
        variables: Vec::new(),
    })
}

/// The stack that `up` left running.
pub(super) fn open_running() -> Result<Stack> {
    let stack = open(Lifetime::Detached, None)?;
    if stack.status().iter().all(|process| process.state != RunState::Running) {
        bail!("the stack is down: run `./dev up --detach`");
    }
    Ok(stack)
}

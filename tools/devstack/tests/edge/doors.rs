//! Peers that begin a request and never end it.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use devstack::{
    testing::{self, Trial},
    topology::Role,
};

use crate::SETTINGS;

const SERVICES: [Role; 4] = [Role::Gateway, Role::Orders, Role::Payments, Role::Delivery];

/// Every port of every service, with half a request.
fn halves(trial: &Trial) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for role in SERVICES {
        let entry = trial.stack.state().entry(role, 1).context("it was started")?;
        for port in [entry.port, entry.second_port].into_iter().flatten() {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(b"GET / HTTP/1.1\r\nX: ")?;
            streams.push(stream);
        }
    }
    ensure!(streams.len() == 6, "{} ports", streams.len());
    Ok(streams)
}

#[test]
fn half_a_request_is_left_in_time_and_delays_no_drain() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let start = Instant::now();
        for mut stream in halves(trial)? {
            stream.set_read_timeout(Some(Duration::from_secs(25)))?;
            match stream.read(&mut [0; 1024]) {
                Ok(0) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                other => anyhow::bail!("not closed after {:?}: {other:?}", start.elapsed()),
            }
        }
        let open = halves(trial)?;
        for role in SERVICES {
            let start = Instant::now();
            ensure!(trial.stack.stop(role, 1).await?, "{role} had to be killed");
            ensure!(start.elapsed() < Duration::from_secs(5), "{role} took {:?}", start.elapsed());
            let log = std::fs::read_to_string(trial.stack.log(role, 1))?;
            let last = log.lines().last().unwrap_or_default();
            ensure!(last.contains("ended after a clean drain"), "{role} ended otherwise: {last}");
        }
        drop(open);
        // The gateway is ready when orders is.
        for role in SERVICES.into_iter().rev() {
            trial.stack.start(role, 1).await?;
        }
        Ok(())
    })
}

//! Somebody between clients and their server on this machine, who hands on what they say until told otherwise.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};

use super::ports;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are handed on.
    Pass,
    /// They are closed, and new ones are refused.
    Refuse,
    /// They are kept, and nothing goes through them, as behind a firewall that drops packets.
    Swallow,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Has a free port; who connects is refused until there is a target.
    pub async fn start() -> Result<Self> {
        let port = ports::free()?;
        let (mode, modes) = watch::channel(Mode::Refuse);
        let target = Arc::new(AtomicU16::new(0));
        let listener = listen(port).await?;
        tokio::spawn(accept(port, listener, target.clone(), modes));
        Ok(Self { port, target, mode })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Hands on to `port` from now on.
    pub fn hand_on_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
        self.set(Mode::Pass);
    }

    /// From now on connections are treated so, those that are open too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("the proxy cannot listen on port {port}"))
}

/// Accepts until the proxy is dropped.
async fn accept(port: u16, listener: TcpListener, target: Arc<AtomicU16>, mut modes: watch::Receiver<Mode>) {
    let mut listening = Some(listener);
    loop {
        if *modes.borrow_and_update() == Mode::Refuse {
            listening = None;
            if modes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(listener) = &listening else {
            match listen(port).await {
                Ok(listener) => listening = Some(listener),
                // A connection of before may keep the port for a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            continue;
        };
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                tokio::spawn(connection(client, target.clone(), modes.clone()));
            },
            changed = modes.changed() => if changed.is_err() { return },
        }
    }
}

async fn connection(client: TcpStream, target: Arc<AtomicU16>, mut modes: watch::Receiver<Mode>) {
    if !passes(&mut modes).await {
        return;
    }
    let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, target.load(Ordering::Relaxed))).await;
    let Ok(broker) = broker else { return };
    // Requests are small and wait for answers.
    if client.set_nodelay(true).and_then(|()| broker.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    // When one half ends, so does the connection.
    tokio::select! {
        () = hand_on(from_client, to_broker, modes.clone()) => {}
        () = hand_on(from_broker, to_client, modes) => {}
    }
}

/// Hands on what comes until one of the two ends, or the connection is to be closed.
async fn hand_on(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 64 << 10];
    while passes(&mut modes).await {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or_default(),
            changed = modes.changed() => if changed.is_ok() { continue } else { return },
        };
        if read == 0 || !passes(&mut modes).await || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Waits while nothing goes through; false when the connection is to be closed.
async fn passes(modes: &mut watch::Receiver<Mode>) -> bool {
    modes.wait_for(|mode| *mode != Mode::Swallow).await.is_ok_and(|mode| *mode == Mode::Pass)
}

//! Accepts connections, at most so many at a time, and stops.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    connection::{self, Peer},
    limits::Limits,
};
use crate::shutdown::Listener;

/// After an error that is not the peer's, such as no file descriptor left, nothing is accepted for this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// While all places are taken, peers that keep one without a request are looked for this often.
const CROWDED: Duration = Duration::from_millis(250);

/// A server for HTTP/1.1 that accepts connections until its listener is told to stop.
#[derive(Debug)]
pub struct Server {
    /// Where it listens: the real port, where 0 was asked for.
    pub address: SocketAddr,
    doors: Doors,
    task: JoinHandle<()>,
}

/// How many may come in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Doors {
    places: Arc<Semaphore>,
    connections: usize,
}

impl Doors {
    fn new(connections: usize) -> Self {
        let connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(connections)), connections }
    }

    /// For a health check.
    ///
    /// # Errors
    /// In words, when all places are taken.
    pub fn are_open(&self) -> Result<(), String> {
        match self.places.available_permits() {
            0 => Err(format!(
                "all {} connections are taken, new ones wait: HTTP_MAX_CONNECTIONS or the limit of file descriptors is too \
                 low for what comes",
                self.connections
            )),
            _ => Ok(()),
        }
    }
}

impl Server {
    /// Binds `address` and serves `app`.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(
        address: SocketAddr,
        app: Router,
        limits: Limits,
        stop: Listener,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}: is the port taken?"))?;
        let address = listener.local_addr()?;
        let doors = Doors::new(limits.connections);
        let task = tokio::spawn(serve(listener, app, limits, doors.clone(), stop));
        Ok(Self { address, doors, task })
    }

    /// Its doors, to be watched.
    pub fn doors(&self) -> Doors {
        self.doors.clone()
    }

    /// Waits, after the stop, for the requests in hand; those not answered within `limit` are cut off. True when there
    /// were none of those. Half a request is none, nor is an answer that nobody takes.
    pub async fn stopped(mut self, limit: Duration) -> bool {
        let ended = tokio::time::timeout(limit, &mut self.task).await;
        self.task.abort();
        matches!(ended, Ok(Ok(())))
    }

    /// Ends when the server did: while it was not told to stop, that is an error.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        (&mut self.task).await.context("the HTTP server panicked")
    }
}

async fn serve(listener: TcpListener, app: Router, limits: Limits, doors: Doors, stop: Listener) {
    let mut connections = JoinSet::new();
    let (crowd, crowded) = watch::channel(false);
    loop {
        tokio::select! {
            () = stop.clone().fired() => break,
            (stream, address, place) = accept(&listener, &doors, &crowd, &limits) => {
                // The hook has logged what panicked.
                while connections.try_join_next().is_some() {}
                let connection = connection::serve(stream, Peer(address), app.clone(), limits, crowded.clone(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    doors: &Doors,
    crowd: &watch::Sender<bool>,
    limits: &Limits,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = place(listener, doors, crowd).await;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                // Who has gone without a word takes what is sent into the buffers of its connection for a long time.
                let gone = u32::try_from(limits.write.as_millis()).unwrap_or(u32::MAX);
                if let Err(error) = set_tcp_user_timeout(&stream, gone) {
                    tracing::debug!(%error, "cannot set TCP_USER_TIMEOUT");
                }
                return (stream, address, place);
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn place(listener: &TcpListener, doors: &Doors, crowd: &watch::Sender<bool>) -> OwnedSemaphorePermit {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut said = false;
    loop {
        let wait = doors.places.clone().acquire_owned();
        match tokio::time::timeout(if said { CROWDED } else { Duration::ZERO }, wait).await {
            Ok(place) => {
                crowd.send_replace(false);
                // It is never closed.
                return place.expect("the semaphore of places is open");
            }
            Err(_) => {
                if !said {
                    said = true;
                    tracing::warn!(
                        port,
                        connections = doors.connections,
                        "all connections are taken; new ones wait"
                    );
                }
                crowd.send_replace(true);
            }
        }
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

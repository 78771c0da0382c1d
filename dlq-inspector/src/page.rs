//! A page or two over HTTP for whoever scrapes: one GET a connection, with time limits and a cap, so that nobody holds up another.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::output::complain;

/// Time a peer is given for its request, and again for taking the answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a request's head that are read.
const HEAD: usize = 8 << 10;
/// Connections at one time; further ones are closed.
const CONNECTIONS: usize = 32;
/// After a connection could not be taken, since there are too many files or the like.
const PAUSE: Duration = Duration::from_millis(100);

/// What a path is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200, and this text.
    Text(String),
    /// 503: it is not known yet.
    NotYet,
    /// 404.
    Missing,
}

/// Answers for ever.
pub fn serve(listener: &TcpListener, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) {
    let (answer, open) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                complain(&format!("warning: a connection was not taken: {error}"));
                thread::sleep(PAUSE);
                continue;
            }
        };
        let place = Place::take(&open);
        if place.is_none() {
            continue;
        }
        let answer = answer.clone();
        let spawned = thread::Builder::new().name("peer".into()).spawn(move || {
            // A peer that has gone, or is too slow, has no answer; the next one may.
            let _ = converse(stream, &*answer);
            drop(place);
        });
        if let Err(error) = spawned {
            complain(&format!("warning: a connection was not answered: {error}"));
        }
    }
}

/// One of the connections that there may be.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(open.clone());
        (open.fetch_add(1, Ordering::Relaxed) < CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(mut stream: TcpStream, answer: &impl Fn(&str) -> Answer) -> io::Result<()> {
    let head = head(&mut stream, LIMIT)?;
    let (status, body) = match path(&head).map(answer) {
        Some(Answer::Text(text)) => ("200 OK", text),
        Some(Answer::NotYet) => ("503 Service Unavailable", "not counted yet\n".into()),
        Some(Answer::Missing) => ("404 Not Found", "there are /metrics and /readyz\n".into()),
        None => ("405 Method Not Allowed", "only GET\n".into()),
    };
    stream.set_write_timeout(Some(LIMIT))?;
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// The head of a request, which has to be there within `limit` however slowly it comes.
fn head(stream: &mut TcpStream, limit: Duration) -> io::Result<Vec<u8>> {
    let begun = Instant::now();
    let mut head = Vec::new();
    let mut part = [0; 1_024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() || head.len() > HEAD {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&part[..read]),
        }
    }
    Ok(head)
}

/// The path that is asked for, without a query; nothing where it is no GET.
fn path(head: &[u8]) -> Option<&str> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("GET ")?;
    let target = rest.split(' ').next()?;
    Some(target.split('?').next().unwrap_or(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("known");
        let _server = thread::spawn(move || {
            serve(&listener, |path| match path {
                "/metrics" => Answer::Text("x 1\n".into()),
                "/readyz" => Answer::NotYet,
                _ => Answer::Missing,
            });
        });
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(request).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and its end");
        answer
    }

    #[test]
    fn each_path_has_its_answer() {
        let scraped = asked(b"GET /metrics?a=b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(scraped.starts_with("HTTP/1.1 200 OK\r\n"), "{scraped}");
        assert!(scraped.contains("Content-Length: 4\r\n") && scraped.ends_with("\r\n\r\nx 1\n"), "{scraped}");
        assert!(asked(b"GET /readyz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 503 "));
        assert!(asked(b"GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(asked(b"POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(asked(b"\xff\r\n\r\n").starts_with("HTTP/1.1 405 "));
    }

    #[test]
    fn a_head_that_does_not_end_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("known")).expect("it listens");
        let (mut stream, _) = listener.accept().expect("a connection");
        peer.write_all(b"GET /metr").expect("written");
        assert!(head(&mut stream, Duration::from_millis(50)).is_err(), "it is slow");
        peer.write_all(&vec![b'a'; 2 * HEAD]).expect("written");
        assert!(head(&mut stream, Duration::from_secs(60)).is_err(), "it is long");
    }

    #[test]
    fn there_are_so_many_places_and_each_comes_back() {
        let open = Arc::default();
        let places: Vec<_> = (0..CONNECTIONS).map(|_| Place::take(&open).expect("a place")).collect();
        assert!(Place::take(&open).is_none());
        drop(places);
        assert!(Place::take(&open).is_some());
    }
}

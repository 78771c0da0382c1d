use std::sync::mpsc::{Sender, channel};

use super::*;

/// Takes what is written when it may.
struct Gate {
    open: Receiver<()>,
    is_open: bool,
    taken: Sender<Vec<u8>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_open {
            self.is_open = self.open.recv().is_ok();
        }
        self.taken.send(bytes.to_vec()).expect("the test looks on");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up_and_says_what_it_lost() {
    let ((opens, open), (taken, lines_taken)) = (channel(), channel());
    let lines = Lines::start(Gate { open, is_open: false, taken }, || {}).expect("a thread");
    let start = Instant::now();
    for n in 0..3 * QUEUE {
        lines.push(n.to_string().into_bytes());
    }
    lines.flush(Duration::from_millis(20));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let dropped = lines.dropped.load(Ordering::Relaxed);
    assert!(dropped >= 2 * QUEUE as u64 - 1 && dropped <= 2 * QUEUE as u64, "{dropped}");
    opens.send(()).expect("it waits");
    lines.flush(Duration::from_secs(20));
    let written: Vec<_> = lines_taken.try_iter().collect();
    assert_eq!(written.len() as u64 + dropped, 3 * QUEUE as u64);
    assert_eq!(written[0], b"0", "in order, the oldest first");
    let soon = Instant::now() + Duration::from_secs(20);
    while lines.dropped.load(Ordering::Relaxed) != 0 {
        assert!(Instant::now() < soon, "it is said once the queue is empty");
        thread::yield_now();
    }
}

#[test]
fn a_line_of_text_is_one_write() {
    let ((opens, open), (taken, lines_taken)) = (channel(), channel());
    opens.send(()).expect("open");
    let lines = Lines::start(Gate { open, is_open: false, taken }, || {}).expect("a thread");
    let mut line = lines.make_writer();
    write!(line, "a{}", 1).expect("kept");
    writeln!(line, "\u{202e}").expect("kept");
    drop(line);
    lines.flush(Duration::from_secs(20));
    assert_eq!(lines_taken.try_iter().next().as_deref(), Some(&b"a1\\u{202e}\n"[..]));
}

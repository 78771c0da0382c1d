use super::*;

#[test]
fn of_a_backtrace_our_frames_are_left() {
    let backtrace = "   0: std::panicking::begin_panic\n             at /rustc/5980/library/std/src/panicking.rs:689:5\n   \
                     1: payments::handler::decide\n             at ./services/payments/src/handler.rs:7:9\n   \
                     2: tokio::runtime::run\n             at /root/.cargo/registry/src/tokio-1/src/mod.rs:1:1\n   \
                     3: payments::main\n             at ./services/payments/src/main.rs:3:1\n   4: _start\n";
    let expected = "payments::handler::decide (./services/payments/src/handler.rs:7:9) < payments::main \
                    (./services/payments/src/main.rs:3:1)";
    assert_eq!(ours(backtrace), expected);
}

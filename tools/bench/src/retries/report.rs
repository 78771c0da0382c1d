//! What was measured, as a table or as JSON.

use serde_json::{Map, Value, json};

use super::{DELAYS, Measured, Way, load::Load};
use crate::servers::PARTITIONS;

/// Prints it.
pub(crate) fn print(load: &Load, measured: &[(Way, Measured)], as_json: bool) {
    if as_json {
        let ways: Map<String, Value> =
            measured.iter().map(|(way, one)| (way.name().to_owned(), object(one))).collect();
        let Load { events, keys, rate, failing } = load;
        let all = json!({"events": events, "keys": keys, "rate": rate, "failing_per_mille": failing,
                         "failing_keys": load.failing_keys().len(), "ways": ways});
        println!("{all}");
        return;
    }
    let rate = match load.rate {
        0 => "as fast as they can be written".to_owned(),
        rate => format!("at {rate} a second"),
    };
    println!(
        "{} events of {} keys over {PARTITIONS} partitions, {rate}; {} of a thousand fail at first",
        load.events, load.keys, load.failing
    );
    let delays: Vec<String> = DELAYS.iter().map(|delay| delay.as_millis().to_string()).collect();
    println!("tried again after {} ms, then dead; servers on this machine", delays.join(", "));
    line("", measured.iter().map(|(way, _)| way.name().replace('_', " ")));
    let row = |what: &str, cell: &dyn Fn(&Measured) -> String| {
        line(what, measured.iter().map(|(_, one)| cell(one)));
    };
    row("keys out of order", &|one| {
        let (keys, all) = one.order.keys;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let share = keys as f64 * 100.0 / all as f64;
        format!("{keys} ({share:.1} %)")
    });
    row("events after a later one of their key", &|one| one.order.late.to_string());
    row("records written besides, to Kafka", &|one| one.written.to_string());
    row("records that waited in PostgreSQL", &|one| one.parked.to_string());
    row("of them dead letters", &|one| one.dead.to_string());
    row("seconds until all is applied", &|one| format!("{:.1}", one.order.seconds));
    row("keys that never fail: p50, p99 ms", &|one| pair(one.order.quiet_ms));
    row("behind one that failed: p50, p99 ms", &|one| pair(one.order.behind_ms));
    row("what failed at first: p50, p99 ms", &|one| pair(one.order.failed_ms));
}

fn line(what: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.map(|cell| format!("{cell:>18}")).collect();
    println!("{what:38}{}", cells.concat());
}

fn pair([p50, p99]: [f64; 2]) -> String {
    format!("{p50:.0}, {p99:.0}")
}

fn object(one: &Measured) -> Value {
    let order = &one.order;
    json!({
        "keys": order.keys.1, "keys_out_of_order": order.keys.0, "events_out_of_order": order.late,
        "applied": order.applied, "dead": one.dead, "written": one.written, "parked": one.parked,
        "seconds": order.seconds,
        "quiet_p50_ms": order.quiet_ms[0], "quiet_p99_ms": order.quiet_ms[1],
        "behind_p50_ms": order.behind_ms[0], "behind_p99_ms": order.behind_ms[1],
        "failed_p50_ms": order.failed_ms[0], "failed_p99_ms": order.failed_ms[1],
    })
}

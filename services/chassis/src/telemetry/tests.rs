use super::*;

#[test]
fn seconds_are_in_buckets_and_the_runtimes_metrics_are_described() {
    let handle = metrics();
    metrics::histogram!("trial_seconds").record(0.003);
    metrics::counter!(actors::metrics::RECORDS, "outcome" => "applied").increment(1);
    let text = handle.render();
    assert!(text.contains(r#"trial_seconds_bucket{le="0.005"} 1"#), "{text}");
    assert!(text.contains("# HELP backburner_records_total Records by outcome"), "{text}");
}

use super::*;

#[test]
fn samples_of_one_name_stand_together_and_values_are_escaped() {
    let sample = |name, topic: &str, value| Sample { name, labels: vec![("topic", topic.into())], value };
    let lag = actors::metrics::LAG;
    let text = render(&[
        sample(lag, "a", 1.0),
        sample(actors::metrics::OLDEST, "a", 0.25),
        sample(lag, "b\"\\\n", 2.0),
    ]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], format!("# HELP {lag} Offsets between a lane and its log's end"));
    assert_eq!(lines[1], format!("# TYPE {lag} gauge"));
    assert_eq!(lines[2], format!("{lag}{{topic=\"a\"}} 1"));
    assert_eq!(lines[3], format!(r#"{lag}{{topic="b\"\\\n"}} 2"#));
    assert_eq!(lines.len(), 7);
}

#[test]
fn a_process_says_what_it_takes() {
    let mut samples = process("orders");
    samples.push(checked("orders", "redis", true));
    let text = render(&samples);
    for (name, help) in PROCESS {
        assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}: {text}");
    }
    assert!(text.contains(r#"backburner_build_info{service="orders",version=""#), "{text}");
    let started: f64 =
        process("x").iter().find(|s| s.name == "process_start_time_seconds").expect("said").value;
    assert!(started > 1.7e9, "{started}");
}

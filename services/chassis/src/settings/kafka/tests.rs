use clap::Parser;

use super::*;

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    kafka: KafkaArgs,
}

fn settings(args: &[&str]) -> Result<KafkaSettings, KafkaArgsError> {
    let args = ["service", "--kafka-brokers", "localhost:9092"].iter().chain(args);
    Settings::try_parse_from(args).expect("valid").kafka.settings()
}

fn error(args: &[&str]) -> String {
    format!("{:#}", anyhow::Error::from(settings(args).expect_err("refused")))
}

#[test]
fn the_list_is_laid_over_the_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, "# ours\nclient.id=file\nsasl.password=a,b=c\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let kafka = settings(&["--kafka-config-file", path, "--kafka-properties", "client.id=list, linger.ms=1"]);
    let pairs =
        [("client.id", "file"), ("sasl.password", "a,b=c"), ("client.id", "list"), ("linger.ms", "1")];
    assert_eq!(
        kafka.expect("valid").properties,
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(settings(&[]).expect("valid").properties, []);
}

#[test]
fn topics_may_have_other_numbers_of_partitions() {
    let read = |text: &str| text.parse::<TopicPartitions>();
    let partitions = read("6, orders=9,dlq.actions=3").expect("sound");
    assert_eq!(["orders", "dlq.actions", "payments"].map(|topic| partitions.of(topic)), [9, 3, 6]);
    assert_eq!(read(&partitions.to_string()), Ok(partitions));
    for wrong in ["", "0", "x", "6,orders", "6,=3", "6,orders=0", "orders=6"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_wrong_is_named_and_no_value_is_told() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    for (text, expected) in [
        ("client.id=a\nsecret", "line 2 is not name=value"),
        ("sasl.pasword=secret", "librdkafka has no property sasl.pasword"),
        ("security.protocol=secret", "librdkafka does not take the value given for security.protocol"),
    ] {
        fs::write(&file, text).expect("written");
        let error = error(&["--kafka-config-file", path]);
        assert!(error.contains(expected) && error.contains(path) && !error.contains("secret"), "{error}");
    }
    for (list, expected) in [
        ("sasl.password=a,secret", "KAFKA_PROPERTIES is not name=value"),
        ("acks=secret", "KAFKA_PROPERTIES: librdkafka does not take the value given for acks"),
    ] {
        let error = error(&["--kafka-properties", list]);
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
    assert!(
        error(&["--kafka-config-file", "/nowhere"]).contains("cannot read KAFKA_CONFIG_FILE at /nowhere")
    );
}

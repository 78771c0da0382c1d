//! A group's gauges, made when somebody asks for them.

use std::collections::BTreeSet;

use dead_letters::TopicPartition;

use super::Group;
use crate::{
    LaneState,
    metrics::{
        CONDITIONS, DEGRADED, INBOX_PAST_RETENTION, LAG, OLDEST, OLDEST_SNAPSHOT, OUTBOX_AGE, OUTBOX_ROWS,
        PARKED, PARKED_AGE, STATE, Sample, UNACCOUNTED,
    },
};

impl Group {
    /// The group's gauges as they are now: of the lanes that are here, and of nothing that has left.
    #[allow(clippy::cast_precision_loss, reason = "gauges are floating-point")]
    pub fn samples(&self) -> Vec<Sample> {
        let group = &self.inner.name;
        let of_group = |name, value| Sample { name, labels: vec![("group", group.clone())], value };
        let found = self.inner.observed.read();
        let lanes = self.inner.consumers.lanes();
        let mut samples = vec![
            of_group(INBOX_PAST_RETENTION, found.inbox_past_retention.as_secs_f64()),
            of_group(OLDEST_SNAPSHOT, found.oldest_snapshot.as_secs_f64()),
        ];
        for state in LaneState::TROUBLE {
            let count = lanes.iter().filter(|lane| lane.state() == state).count();
            let mut sample = of_group(DEGRADED, count as f64);
            sample.labels.push(("state", state.trouble().unwrap_or_default().to_owned()));
            samples.push(sample);
        }
        for lane in &lanes {
            let (status, (parked, backlog)) = (lane.snapshot(), lane.waiting());
            let unaccounted = found.unaccounted.get(&lane.source).copied().unwrap_or(0);
            let parked_oldest = found.parked_oldest.get(&lane.source).copied().unwrap_or_default();
            samples.extend(
                [
                    (LAG, status.lag as f64),
                    (OLDEST, lane.oldest().as_secs_f64()),
                    (PARKED, parked as f64),
                    (PARKED_AGE, parked_oldest.as_secs_f64()),
                    (OUTBOX_ROWS, backlog.rows as f64),
                    (OUTBOX_AGE, backlog.oldest.as_secs_f64()),
                    (UNACCOUNTED, unaccounted as f64),
                    (STATE, f64::from(status.state.level())),
                ]
                .map(|(name, value)| Sample {
                    name,
                    labels: labels(group, &lane.source),
                    value,
                }),
            );
        }
        // What was written beside all partitions, such as by the HTTP side.
        if let Some(backlog) = self.inner.publisher.backlog() {
            let of_none = |name, value| {
                let mut sample = of_group(name, value);
                sample.labels.extend([("topic", String::new()), ("partition", String::new())]);
                sample
            };
            samples.push(of_none(OUTBOX_ROWS, backlog.rows as f64));
            samples.push(of_none(OUTBOX_AGE, backlog.oldest.as_secs_f64()));
        }
        // A partition that nobody here has is shown only where something is wrong with it.
        let here: BTreeSet<_> = lanes.iter().map(|lane| &lane.source).collect();
        for (source, left) in &found.unaccounted {
            if *left != 0 && !here.contains(source) {
                samples.push(Sample {
                    name: UNACCOUNTED,
                    labels: labels(group, source),
                    value: *left as f64,
                });
            }
        }
        samples.extend(self.conditions());
        samples
    }

    /// One for each condition: a partition may be wrong in two ways of one code, and a series must not come twice.
    fn conditions(&self) -> Vec<Sample> {
        let mut seen = BTreeSet::new();
        for condition in self.degraded() {
            let partition = condition.partition.map(|partition| partition.to_string()).unwrap_or_default();
            seen.insert((condition.topic.unwrap_or_default(), partition, condition.code.into_owned()));
        }
        let sample = |(topic, partition, code)| Sample {
            name: CONDITIONS,
            labels: vec![
                ("group", self.inner.name.clone()),
                ("topic", topic),
                ("partition", partition),
                ("code", code),
            ],
            value: 1.0,
        };
        seen.into_iter().map(sample).collect()
    }
}

fn labels(group: &str, source: &TopicPartition) -> Vec<(&'static str, String)> {
    vec![
        ("group", group.to_owned()),
        ("topic", source.topic.to_string()),
        ("partition", source.partition.to_string()),
    ]
}

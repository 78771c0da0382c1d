//! The spans of what is sent: from when a record is handed to the producer until Kafka has it.

use std::time::SystemTime;

use rdkafka::Message;

use crate::{
    event::Emit,
    trace::{self, Kind, Sent, Span},
};

/// A record that is under way. One that is sent twice is told twice, as the same span.
#[derive(Debug)]
pub(super) struct Sending {
    sent: Sent,
    started: SystemTime,
}

/// `None` where nobody is told of it: that costs a look.
pub(super) fn begin(emit: &Emit) -> Option<Box<Sending>> {
    let recorder = trace::recorder()?;
    // A dead letter's headers are those of its record, the trace's too: it was sent by that span once, and is not again.
    let sent = trace::sent(emit).filter(|_| emit.headers.last("dlq.id").is_none())?;
    let wanted = recorder.samples(sent.context.trace_id, Some(sent.context));
    wanted.then(|| Box::new(Sending { sent, started: SystemTime::now() }))
}

impl Sending {
    /// Kafka has it.
    pub(super) fn acknowledged(self, message: &impl Message) {
        let Some(recorder) = trace::recorder() else { return };
        let topic = message.topic();
        recorder.record(Span {
            name: format!("send {topic}"),
            kind: Kind::Producer,
            context: self.sent.context.sampled(true),
            parent: Some(self.sent.parent),
            links: Vec::new(),
            started: self.started,
            ended: SystemTime::now(),
            attributes: vec![
                ("messaging.system", "kafka".into()),
                ("messaging.operation.name", "send".into()),
                ("messaging.operation.type", "send".into()),
                ("messaging.destination.name", topic.to_owned().into()),
                ("messaging.destination.partition.id", message.partition().to_string().into()),
                ("messaging.kafka.offset", message.offset().into()),
            ],
            error: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use dead_letters::Headers;

    use super::*;

    #[test]
    fn nobody_is_told_where_there_is_nobody() {
        let mut headers = Headers::new();
        headers.push(trace::HEADER, Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        let emit = Emit { topic: "orders".into(), key: None, value: None, headers };
        assert!(trace::sent(&emit).is_some() && begin(&emit).is_none());
    }
}

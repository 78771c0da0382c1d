//! What is wrong with topics that exist: they were made by somebody else, and may not keep what they are given.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use dead_letters::client_config;
use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier},
    client::DefaultClientContext,
    metadata::Metadata,
};

use crate::{
    Cause,
    condition::{Conditions, Found, Raised, Subject},
    kafka::{MetadataClient, REQUEST, TopicSpec, group_topics},
    settings::GroupSettings,
};

const COMPACTED: &str = "topic-compacted";
const RETENTION: &str = "topic-retention";
const MESSAGE_SIZE: &str = "topic-message-size";
const REPLICATION: &str = "topic-replication";

/// A code, and what is wrong in words.
type Wrong = (&'static str, String);

/// What is wrong with these topics, as far as they exist. A topic's settings are compared with those it would be made with.
///
/// # Errors
/// When Kafka does not answer, or does not tell.
pub(crate) async fn look(
    client: &MetadataClient,
    admin: &AdminClient<DefaultClientContext>,
    topics: &[TopicSpec],
) -> Result<Found, Cause> {
    let metadata = client.fetch(REQUEST).await?;
    let mut found = Found::new();
    let mut note = |topic: &TopicSpec, (code, message): Wrong| {
        found.insert((Subject::Topic(topic.name.as_str().into()), code), message);
    };
    for topic in topics {
        if let Some(wrong) = replication(topic, &metadata) {
            note(topic, wrong);
        }
    }
    let there = |topic: &&TopicSpec| !topic.config.is_empty() && replicas(&topic.name, &metadata).is_some();
    let made: Vec<&TopicSpec> = topics.iter().filter(there).collect();
    for (topic, settings) in describe(admin, &made).await? {
        settings_of(topic, &settings).into_iter().for_each(|wrong| note(topic, wrong));
    }
    Ok(found)
}

/// The fewest replicas of a partition; `None` when the topic is not there.
fn replicas(topic: &str, metadata: &Metadata) -> Option<usize> {
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none())?;
    found.partitions().iter().map(|partition| partition.replicas().len()).min()
}

fn replication(topic: &TopicSpec, metadata: &Metadata) -> Option<Wrong> {
    let (replicas, brokers) = (replicas(&topic.name, metadata)?, metadata.brokers().len());
    (replicas == 1 && brokers > 1).then(|| {
        let name = &topic.name;
        let message = format!(
            "topic {name} has one replica and the cluster {brokers} brokers: what Kafka has acknowledged is lost with one disk; \
             give it more (kafka-reassign-partitions)"
        );
        (REPLICATION, message)
    })
}

async fn describe<'a>(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[&'a TopicSpec],
) -> Result<Vec<(&'a TopicSpec, HashMap<String, String>)>, Cause> {
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    if resources.is_empty() {
        return Ok(Vec::new());
    }
    let options = AdminOptions::new().request_timeout(Some(REQUEST));
    let described = admin.describe_configs(&resources, &options).await;
    let described = described.map_err(|error| Cause::from_error("topic-settings", &error))?;
    let mut all = Vec::new();
    for result in described {
        let ConfigResource { specifier, entries } =
            result.map_err(|code| Cause::new("topic-settings", code.to_string()))?;
        let OwnedResourceSpecifier::Topic(name) = specifier else { continue };
        let Some(topic) = topics.iter().find(|topic| topic.name == name) else { continue };
        all.push((
            *topic,
            entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect(),
        ));
    }
    Ok(all)
}

/// What is wrong with a topic's settings.
fn settings_of(topic: &TopicSpec, settings: &HashMap<String, String>) -> Vec<Wrong> {
    let name = &topic.name;
    let wanted: BTreeMap<&str, &str> = topic.config.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let has = |setting: &str| number(settings.get(setting).map(String::as_str));
    let mut found = Vec::new();
    let mut note = |code, message: String| found.push((code, message));
    if settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        note(
            COMPACTED,
            format!(
                "topic {name} is compacted: of records with one key only the last is kept, the others are lost; set \
                 cleanup.policy=delete (kafka-configs --alter --topic {name} --add-config cleanup.policy=delete)"
            ),
        );
    }
    if let (Some(wanted), Some(has)) = (number(wanted.get("retention.ms").copied()), has("retention.ms"))
        && has >= 0
        && has < wanted
    {
        note(
            RETENTION,
            format!(
                "topic {name} keeps records for {} and should for {}: set retention.ms={wanted}",
                days(has),
                days(wanted)
            ),
        );
    } else if has("retention.bytes").is_some_and(|bytes| bytes >= 0) {
        note(
            RETENTION,
            format!(
                "topic {name} drops records when it has grown, however young they are: set retention.bytes=-1"
            ),
        );
    }
    if let (Some(wanted), Some(has)) =
        (number(wanted.get("max.message.bytes").copied()), has("max.message.bytes"))
        && has < wanted
    {
        note(
            MESSAGE_SIZE,
            format!(
                "topic {name} takes messages of {has} bytes and should of {wanted}: larger ones are cut; set \
                 max.message.bytes={wanted}"
            ),
        );
    }
    found
}

fn days(ms: i64) -> String {
    let hours = ms / 3_600_000;
    if hours >= 48 { format!("{} days", hours / 24) } else { format!("{hours} hours") }
}

/// Looks at the topics of a group again and again.
pub(crate) struct Looking {
    client: MetadataClient,
    admin: AdminClient<DefaultClientContext>,
    topics: Vec<TopicSpec>,
    every: Duration,
    conditions: Conditions,
    raised: Raised,
}

impl Looking {
    pub(crate) fn new(
        settings: &GroupSettings,
        client: MetadataClient,
        conditions: Conditions,
    ) -> Result<Self, Cause> {
        let admin = client_config(&settings.kafka, &[]).create();
        // Partition counts are not compared here.
        let mut topics = group_topics(&settings.group, 0);
        topics.extend(settings.topics.iter().map(|topic| TopicSpec::new(topic, 0)));
        Ok(Self {
            client,
            admin: admin.map_err(|error| Cause::from_error("kafka-settings", &error))?,
            topics,
            every: settings.topics_every,
            conditions,
            raised: Raised::default(),
        })
    }

    /// The first look. What cannot be seen now may be later; a topic that loses what it is given is refused.
    ///
    /// # Errors
    /// `topic-compacted`.
    pub(crate) async fn begin(&mut self) -> Result<(), Cause> {
        let found = self.once().await;
        let compacted = found.into_iter().find(|((_, code), _)| *code == COMPACTED);
        compacted.map_or(Ok(()), |((_, code), message)| Err(Cause::new(code, message)))
    }

    /// Runs until it is aborted.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(self.every).await;
            self.once().await;
        }
    }

    /// Raises what is so and clears what is not any more.
    async fn once(&mut self) -> Found {
        let found = match look(&self.client, &self.admin, &self.topics).await {
            Ok(found) => found,
            Err(cause) => {
                tracing::debug!(%cause, "the settings of the topics cannot be seen");
                return Found::new();
            }
        };
        self.raised.say(&self.conditions, found.clone());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loses_letters_is_named_with_what_to_do() {
        let topics = group_topics("g", 3);
        let of = |name: &str, settings: &[(&str, &str)]| {
            let topic = topics.iter().find(|topic| topic.name == name).expect("one of them");
            let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            settings_of(topic, &settings)
        };
        let sound = [("retention.ms", "-1"), ("max.message.bytes", "20971520"), ("cleanup.policy", "delete")];
        assert_eq!(of("g.dlq", &sound), []);
        let made_by_hand = [
            ("retention.ms", "604800000"),
            ("max.message.bytes", "1048588"),
            ("cleanup.policy", "compact,delete"),
        ];
        let found = of("g.dlq", &made_by_hand);
        let codes: Vec<_> = found.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, [COMPACTED, RETENTION, MESSAGE_SIZE]);
        assert_eq!(
            found[1].1,
            "topic g.dlq keeps records for 7 days and should for 30 days: set retention.ms=2592000000"
        );
        let small = [("retention.ms", "5184000000"), ("retention.bytes", "1000")];
        assert_eq!(of("dlq.actions", &small)[0].0, RETENTION);
    }
}

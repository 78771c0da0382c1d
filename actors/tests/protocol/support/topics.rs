//! What becomes of a test's topics.

use std::time::Duration;

use actors::TopicSpec;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier},
    client::DefaultClientContext,
};

use super::{World, until};

impl World {
    /// Gives a topic more partitions.
    pub(crate) async fn grow(&self, topic: &str, partitions: usize) {
        let grown = self
            .admin()
            .create_partitions(&[NewPartitions::new(topic, partitions)], &AdminOptions::new())
            .await;
        assert!(grown.expect("asked").iter().all(Result::is_ok));
    }

    /// Deletes the first partition's records below `offset`, as retention does.
    pub(crate) async fn delete_before(&self, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(offset)).expect("offset");
        self.admin().delete_records(&list, &AdminOptions::new()).await.expect("deleted");
    }

    /// Deletes the topic and creates it again, empty.
    pub(crate) async fn make_topic_anew(&self) {
        self.delete_topic().await;
        self.create_topic().await;
    }

    /// Deletes the topic.
    pub(crate) async fn delete_topic(&self) {
        self.delete(&self.topic).await;
    }

    /// Deletes any topic.
    pub(crate) async fn delete(&self, topic: &str) {
        let admin = self.admin();
        let deleted = admin.delete_topics(&[topic], &AdminOptions::new()).await.expect("asked");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        until("the topic is gone", || async {
            let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(5)).expect("metadata");
            metadata.topics().iter().all(|there| there.name() != topic)
        })
        .await;
    }

    /// Creates the topic again, with one partition.
    pub(crate) async fn create_topic(&self) {
        self.create(&self.topic).await;
    }

    /// Creates any topic, with one partition.
    pub(crate) async fn create(&self, topic: &str) {
        let topic = TopicSpec::new(topic, 1);
        actors::ensure_topics(&self.settings.kafka, &[topic], true).await.expect("the topic again");
    }

    /// Gives a topic these settings, and no others.
    pub(crate) async fn configure(&self, topic: &str, settings: &[(&str, &str)]) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let change = settings.iter().fold(change, |change, (name, value)| change.set(name, value));
        let results = self.admin().alter_configs([&change], &AdminOptions::new()).await.expect("an answer");
        for result in results {
            result.expect("changed");
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.settings.kafka.brokers);
        config.create().expect("admin client")
    }
}

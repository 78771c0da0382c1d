use super::*;

#[test]
fn names_follow_the_partitions() {
    // Of Kafka's own tests.
    for (key, expected) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ] {
        assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
    }
    let orders: Vec<Uuid> = (0..100).map(Uuid::from_u128).collect();
    let (_, buckets) = buckets(&orders);
    assert!(buckets.iter().all(|bucket| (0..240).contains(bucket)));
}

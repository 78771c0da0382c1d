use super::*;
use crate::database::TlsFiles;

#[test]
fn too_few_connections_are_refused_with_the_number_that_is_enough() {
    let database = Database::new("postgres://u@localhost/d", "test", &TlsFiles::default()).expect("valid");
    let pools = database.pools(16, 4).expect("the defaults");
    let sizes = [&pools.pipeline, &pools.intake, &pools.reads, &pools.housekeeping];
    assert_eq!(sizes.map(|pool| pool.status().max_size), [6, 3, 4, 3]);
    let refused = database.pools(16, 8).expect_err("too few");
    assert_eq!(
        refused.to_string(),
        "DATABASE_POOL is 16, too few for BATCH_TRANSACTIONS of 8 beside requests and housekeeping: at least 21 are needed"
    );
    assert_eq!(database.pools(21, 8).expect("enough").pipeline.status().max_size, 10);
}

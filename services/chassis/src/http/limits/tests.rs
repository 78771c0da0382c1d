use super::*;

#[test]
fn descriptors_are_kept_for_servers() {
    for (available, descriptors, connections) in
        [(1_024, 1, 704), (1_024, 2, 352), (256, 1, 64), (4, 2, 1), (0, 1, 1)]
    {
        assert_eq!(share(available, descriptors), connections, "{available}, {descriptors}");
    }
    assert!(share(usize::MAX, 1) > 1 << 40);
    let limits = Limits { connections: 5, ..Limits::default() };
    assert_eq!(limits.within_descriptors(1).connections, 5, "what was asked for is not raised");
    assert_eq!(Limits::default().admin().connections, ADMIN_CONNECTIONS);
}

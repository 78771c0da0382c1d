use futures_util::FutureExt;

use super::*;

fn order(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

#[test]
fn whoever_follows_is_told_of_another_version_and_of_no_other_order() {
    let watch = Watch::default();
    let (mut first, mut second) = (watch.follow(order(1)), watch.follow(order(1)));
    let mut other = watch.follow(order(2));
    assert!(first.changed_from(1).now_or_never().is_none(), "nothing is known yet");
    watch.tell(&[(order(1), 1), (order(3), 9)]);
    assert!(first.changed_from(1).now_or_never().is_none(), "that is what was known");
    watch.tell(&[(order(1), 2)]);
    for following in [&mut first, &mut second] {
        assert!(following.changed_from(1).now_or_never().is_some());
        assert!(following.changed_from(2).now_or_never().is_none());
    }
    assert!(other.changed_from(1).now_or_never().is_none());
    // Whoever has read it since knows more than was told.
    assert!(first.changed_from(3).now_or_never().is_none());
}

#[test]
fn that_nothing_can_be_read_is_shown_for_as_long_as_it_is_so() {
    let watch = Watch::default();
    watch.note(Some(Cause::new("gone", "no server")));
    assert_eq!(watch.sees(), Ok(()), "it may be over at once");
    *watch.0.failing.lock() =
        Instant::now().checked_sub(SILENT).map(|since| (since, Cause::new("gone", "no server")));
    watch.note(Some(Cause::new("still", "no table")));
    assert!(watch.sees().is_err_and(|why| why.contains("no table")));
    watch.note(None);
    assert_eq!(watch.sees(), Ok(()));
}

#[test]
fn nothing_is_kept_of_those_who_have_gone() {
    let watch = Watch::default();
    let (first, second) = (watch.follow(order(1)), watch.follow(order(1)));
    drop(first);
    assert_eq!(watch.0.followed.lock().len(), 1);
    drop(second);
    assert!(watch.0.followed.lock().is_empty());
}

use super::*;

#[tokio::test]
async fn firing_and_dropping_both_stop_every_listener() {
    let (trigger, listener) = trigger();
    assert!(!listener.is_fired());
    trigger.fire();
    listener.clone().fired().await;
    assert!(listener.is_fired());
    let (trigger, listener) = super::trigger();
    drop(trigger);
    listener.fired().await;
}

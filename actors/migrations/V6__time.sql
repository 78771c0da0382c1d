-- A lane's rows in the order they were parked, and how many of them were put back. Docs in `actors`.
create index parked_order on parked (consumer, topic, partition, id);
create index parked_requeued on parked (consumer, topic, partition, id) where requeued_from is not null;

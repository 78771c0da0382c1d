-- Couriers are taken in turn, each batch its own few, so that no batch waits for another: this says whose turn it is. Not part of
-- any transaction, and no row that all of them update.
create sequence courier_turn;

-- Updated by every batch that sends or frees somebody: room for the next versions, and a vacuum as soon as there is something
-- to remove.
alter table couriers set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

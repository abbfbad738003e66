-- An insert of a delivery carries a token that names the position it goes on from. The newest tokens are kept, so that an insert which
-- was held up on its way, and sent again meanwhile, is not stored a second time (at 300 inserts a second for half a minute).
ALTER TABLE {database}.depth_updates MODIFY SETTING non_replicated_deduplication_window = 10000;
ALTER TABLE {database}.quotes MODIFY SETTING non_replicated_deduplication_window = 10000;
ALTER TABLE {database}.trades MODIFY SETTING non_replicated_deduplication_window = 10000;
ALTER TABLE {database}.book_snapshots MODIFY SETTING non_replicated_deduplication_window = 10000;
ALTER TABLE {database}.feed_events MODIFY SETTING non_replicated_deduplication_window = 10000;
ALTER TABLE {database}.gap_events MODIFY SETTING non_replicated_deduplication_window = 10000;

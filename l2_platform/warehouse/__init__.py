"""Where the tables are: the embedded ClickHouse engine behind HTTP, its client, and the schema with its migrations."""

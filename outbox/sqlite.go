package outbox

type sqlite struct{ tables }

// AUTOINCREMENT never assigns the id of a deleted message again.
func (t sqlite) schema() []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS ` + t.messages.String() + ` (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  shard INTEGER NOT NULL,               -- negative while the message is held
  ordering_key TEXT NOT NULL,
  message TEXT NOT NULL,                -- exchange, routing key and properties as JSON
  body BLOB NOT NULL,
  added_at INTEGER NOT NULL,            -- microseconds since 1970
  attempts INTEGER NOT NULL DEFAULT 0,
  errors TEXT NOT NULL DEFAULT '',      -- history of failures as JSON
  failed_at INTEGER                     -- set while the message is set aside
)`,
		t.messages.CreateIndex("_shard", "shard, id"),
		t.messages.CreateIndex("_held", "ordering_key, id") + " WHERE shard < 0",
		`CREATE TABLE IF NOT EXISTS ` + t.keys.String() + ` (
  ordering_key TEXT PRIMARY KEY,
  shard INTEGER NOT NULL,
  retry_at INTEGER NOT NULL
)`,
		t.keys.CreateIndex("_due", "shard, retry_at"),
		`CREATE TABLE IF NOT EXISTS ` + t.leases.String() + ` (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  expires_at INTEGER NOT NULL
)`,
		`CREATE TABLE IF NOT EXISTS ` + t.meta.String() + ` (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
)`,
	}
}

func (sqlite) now() string { return "CAST(unixepoch('subsec') * 1000000 AS INTEGER)" }

// A transaction that writes excludes all others.
func (sqlite) lockKeys([]string) (string, []any) { return "", nil }

func (t sqlite) read(ranges []shardRange, limit, size int) (string, []any) {
	return unionRead(t.tables, t.now(), ranges, limit, size), nil
}

func (t sqlite) remove(rows []*row) (string, []any) {
	return "DELETE FROM " + t.messages.String() + " WHERE id IN (" + idsOf(rows) + ")", nil
}

// Deleted messages leave nothing behind that a query would have to pass.
func (sqlite) writers() string { return "" }

package outbox

import (
	"database/sql"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
)

type mysql struct{ tables }

// lockSlots is the number of rows that stand for the ordering keys. Two keys may share one.
const lockSlots = 1024

// Keys are compared byte by byte. An index for held messages alone does not exist here, so _held contains all.
func (t mysql) schema() []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS ` + t.messages.String() + ` (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  shard SMALLINT NOT NULL COMMENT 'negative while the message is held',
  ordering_key VARBINARY(300) NOT NULL,
  message MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'exchange, routing key and properties as JSON',
  body LONGBLOB NOT NULL,
  added_at BIGINT NOT NULL COMMENT 'microseconds since 1970',
  attempts INT NOT NULL DEFAULT 0,
  errors VARCHAR(8000) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'history of failures as JSON',
  failed_at BIGINT NULL COMMENT 'set while the message is set aside',
  KEY _shard (shard, id),
  KEY _held (ordering_key, shard, id)
) ENGINE=InnoDB`,
		`CREATE TABLE IF NOT EXISTS ` + t.keys.String() + ` (
  ordering_key VARBINARY(300) NOT NULL PRIMARY KEY,
  shard SMALLINT NOT NULL,
  retry_at BIGINT NOT NULL,
  KEY _due (shard, retry_at)
) ENGINE=InnoDB`,
		`CREATE TABLE IF NOT EXISTS ` + t.leases.String() + ` (
  name VARCHAR(64) CHARACTER SET ascii NOT NULL PRIMARY KEY,
  holder VARCHAR(64) CHARACTER SET ascii NOT NULL,
  expires_at BIGINT NOT NULL
) ENGINE=InnoDB`,
		`CREATE TABLE IF NOT EXISTS ` + t.locks.String() + ` (slot INT NOT NULL PRIMARY KEY, used INT NOT NULL DEFAULT 0) ENGINE=InnoDB`,
		`INSERT IGNORE INTO ` + t.locks.String() + ` (slot) VALUES ` + join(make([]struct{}, lockSlots), slotValue()),
		`CREATE TABLE IF NOT EXISTS ` + t.meta.String() + ` (
  name VARCHAR(64) CHARACTER SET ascii NOT NULL PRIMARY KEY,
  value BIGINT NOT NULL
) ENGINE=InnoDB`,
	}
}

func slotValue() func(struct{}) string {
	slot := -1
	return func(struct{}) string { slot++; return fmt.Sprintf("(%d)", slot) }
}

func (mysql) now() string {
	return "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
}

// Locks of GET_LOCK belong to the connection, not to the transaction. Row locks end with the transaction.
func (t mysql) lockKeys(keys []string) (string, []any) {
	slots := make([]int, len(keys))
	for i, key := range keys {
		h := fnv.New32a()
		h.Write([]byte(key))
		slots[i] = int(h.Sum32() % lockSlots)
	}
	slices.Sort(slots)
	return "UPDATE " + t.locks.String() + " SET used = 1 - used WHERE slot IN (" + join(slices.Compact(slots), strconv.Itoa) + ") ORDER BY slot", nil
}

func (t mysql) read(ranges []shardRange, limit, size int) (string, []any) {
	return unionRead(t.tables, t.now(), ranges, limit, size), nil
}

func (t mysql) remove(rows []*row) (string, []any) {
	return t.deleteFrom(t.byID()) + " WHERE m.id IN (" + idsOf(rows) + ")", nil
}

// All held messages of a key have the same shard. Their index contains it, so that it does not read the others of the key.
func (mysql) held(shard int) string { return fmt.Sprint("m.shard = ", heldShard(shard)) }

func (mysql) upsert() string {
	return " ON DUPLICATE KEY UPDATE shard = VALUES(shard), retry_at = VALUES(retry_at)"
}

// A condition NOT EXISTS would lock gaps, in which two processes that create the tables wait for each other.
func (mysql) keep() string { return " ON DUPLICATE KEY UPDATE name = VALUES(name)" }

// A statement locks each row that it reads, and waits for the transaction that has added it. So it must not read others
// than those with the ids, even if the table is small.
func (t mysql) byID() string { return t.messages.String() + " AS m FORCE INDEX (PRIMARY)" }

func (mysql) deleteFrom(table string) string { return "DELETE m FROM " + table }

// With REPEATABLE READ, the default, statements lock gaps between rows too, where Add would insert.
func (mysql) isolation() *sql.TxOptions { return &sql.TxOptions{Isolation: sql.LevelReadCommitted} }

// InnoDB's locks are visible only to administrators. Its purge removes deleted messages soon unless a transaction keeps
// an old snapshot.
func (mysql) writers() string { return "" }

package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/amqpkit/amqpkit/integration/databases/internal/sqltrace"
	"github.com/amqpkit/amqpkit/outbox"
)

func TestStatementsOfARelayUseAnIndex(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		db.add(t, message("missing", "fails", "is returned"), message("orders", "fails", "waits behind it"))
		db.addMany(t)

		var seen statements
		traced, err := sqltrace.Open(db.driver, db.dsn, seen.add)
		if err != nil {
			t.Fatal(err)
		}
		defer traced.Close()
		if db.dialect == "sqlite" {
			traced.SetMaxOpenConns(1)
		}
		_, stop := start(t, db.Outbox, traced, s, outbox.RelayConfig{BatchSize: 100, MaxAttempts: 2})
		eventually(t, "the key of the message that is set aside is released", func() bool { return seen.contain("SELECT MIN(m.id)") })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		failed, err := db.Failed(t.Context(), traced, 0, 10)
		if err != nil || len(failed) != 1 {
			t.Fatalf("Failed = %d messages, %v", len(failed), err)
		}
		if _, err := db.Replay(t.Context(), traced, failed[0].ID); err != nil {
			t.Fatal(err)
		}

		for name, part := range map[string]string{
			"read": "sum_before", "remove": map[bool]string{false: "DELETE FROM ", true: "DELETE m FROM "}[db.dialect == "mysql"] + db.quoted("amqpkit_outbox") + " ", "due": "retry_at <=", "held": " AND m.failed_at IS NULL ORDER BY m.id",
			"hold": "SET shard = ", "release": "SELECT MIN(m.id)", "failed": "failed_at IS NOT NULL AND id >", "replay": "SET failed_at = NULL",
		} {
			if !seen.contain(part) {
				t.Errorf("no statement of kind %s", name)
			}
		}
		for _, statement := range seen.list {
			if strings.Contains(statement.Query, "amqpkit_outbox") && !strings.HasPrefix(statement.Query, "INSERT INTO "+db.quoted("amqpkit_outbox_keys")+" (ordering_key, shard, retry_at) VALUES") {
				db.expectIndex(t, statement)
			}
		}
	})
}

// addMany adds more than 100,000 messages with 1,000 ordering keys.
func (db *database) addMany(t *testing.T) {
	t.Helper()
	messages := make([]outbox.Message, 1000)
	for i := range messages {
		messages[i] = message("orders", fmt.Sprint("order ", i), "paid")
	}
	db.add(t, messages...)
	for range 7 { // each time twice as many
		const columns = "shard, ordering_key, message, body, added_at"
		if _, err := db.ExecContext(t.Context(), "INSERT INTO amqpkit_outbox ("+columns+") SELECT "+columns+" FROM amqpkit_outbox WHERE ordering_key <> 'fails'"); err != nil {
			t.Fatal(err)
		}
	}
	analyze := map[string]string{"postgresql": "ANALYZE", "mysql": "ANALYZE TABLE amqpkit_outbox", "sqlite": "ANALYZE"}[db.dialect]
	if _, err := db.ExecContext(t.Context(), analyze); err != nil {
		t.Fatal(err)
	}
}

// statements are different statements in the order of their first execution. Two that differ in numbers only are the same.
type statements struct {
	mu    sync.Mutex
	forms map[string]bool
	list  []sqltrace.Statement
}

var number = regexp.MustCompile(`-?\d+(,-?\d+)*`)

func (s *statements) add(statement sqltrace.Statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	form := number.ReplaceAllString(statement.Query, "N")
	if s.forms[form] {
		return
	}
	if s.forms == nil {
		s.forms = map[string]bool{}
	}
	s.forms[form] = true
	s.list = append(s.list, statement)
}

func (s *statements) contain(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, statement := range s.list {
		if strings.Contains(statement.Query, part) {
			return true
		}
	}
	return false
}

func (db *database) quoted(table string) string {
	if db.dialect == "mysql" {
		return "`" + table + "`"
	}
	return `"` + table + `"`
}

// expectIndex fails the test if a plan of the statement reads the whole table of messages.
func (db *database) expectIndex(t *testing.T, s sqltrace.Statement) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var plans []string
	var whole *regexp.Regexp  // a line of a plan that reads the whole table
	var shards *regexp.Regexp // a line of a plan that begins a shard at its floor
	switch db.dialect {
	case "postgresql":
		whole = regexp.MustCompile(`Seq Scan on amqpkit_outbox( |$)`)
		shards = regexp.MustCompile(`Index Cond: \(\(shard = s.shard\) AND \(id > s.floor\)\)`)
		plans = append(plans, rowsOf(t, conn, "EXPLAIN "+s.Query, s.Args...), genericPlan(t, conn, s))
	case "mysql": // the columns of a line are id, select_type, table, type, …
		whole = regexp.MustCompile(`(?m)^\S+ \S+ (m|amqpkit_outbox) (ALL|index) `)
		shards = regexp.MustCompile(`amqpkit_outbox range \S+ _shard `)
		plans = append(plans, rowsOf(t, conn, "EXPLAIN "+s.Query, s.Args...))
	case "sqlite":
		whole = regexp.MustCompile(`(?m)SCAN (m|amqpkit_outbox)\b`)
		shards = regexp.MustCompile(`\(shard=\? AND id>\?\)`)
		plans = append(plans, rowsOf(t, conn, "EXPLAIN QUERY PLAN "+s.Query, s.Args...))
	}
	for _, plan := range plans {
		if whole.MatchString(plan) {
			t.Errorf("%s\nreads the whole table:\n%s", s.Query, plan)
		}
		if strings.Contains(s.Query, "sum_before") && !shards.MatchString(plan) {
			t.Errorf("%s\ndoes not begin each shard at its floor:\n%s", s.Query, plan)
		}
	}
}

// genericPlan returns the plan that PostgreSQL makes for all values of the arguments. A driver that caches prepared
// statements gets it after some executions.
func genericPlan(t *testing.T, conn *sql.Conn, s sqltrace.Statement) string {
	t.Helper()
	execute := "EXPLAIN EXECUTE planned"
	if len(s.Args) > 0 {
		execute += "(NULL" + strings.Repeat(", NULL", len(s.Args)-1) + ")"
	}
	for _, query := range []string{"SET plan_cache_mode = force_generic_plan", "PREPARE planned AS " + s.Query} {
		if _, err := conn.ExecContext(t.Context(), query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	plan := rowsOf(t, conn, execute)
	for _, query := range []string{"DEALLOCATE planned", "RESET plan_cache_mode"} {
		if _, err := conn.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	return plan
}

// rowsOf returns the rows of a query as lines, with spaces between their columns.
func rowsOf(t *testing.T, db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, query string, args ...any,
) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, v := range values {
			texts = append(texts, v.String)
		}
		lines = append(lines, strings.Join(texts, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

package main

import (
	"fmt"
	"strings"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

// Groups that use a database have names of rows that begin with outbox.

// Numbers of messages in a run. The loop is slow. The other programs run for seconds, because PostgreSQL's time is measured in
// units of 10 ms.
const (
	loopMessages  = 2000
	drainMessages = 40_000
	stateMessages = 50_000
	manyWaiting   = 1_000_000
	inboxMessages = 20_000
	none          = -1
)

func outboxGroups() []group {
	return []group{draining("postgresql"), draining("sqlite"), databaseTime(), wakeUp(), keepingUp(), inboxBatches()}
}

// draining compares a Relay with hand-written relays while all of them empty a prepared table.
func draining(database string) group {
	t := side.Task{Queues: 1, Messages: drainMessages, Size: 500, Keys: 1000, Prepare: "outbox"}
	loop, pipelined, manyKeys := t, t, t
	loop.How, loop.Prepare, loop.Messages = "loop", "loop", loopMessages
	pipelined.How, pipelined.Prepare = "pipelined", "loop"
	manyKeys.Keys = 100_000
	g := group{
		queue: "quorum", queues: 1, database: database, left: allMessages,
		contenders: []contender{
			{"loop", "raw/relay", loop},
			{"pipelined", "raw/relay", pipelined},
			{"1000 keys", "kit/relay", t},
			{"100000 keys", "kit/relay", manyKeys},
		},
	}
	for _, kit := range []string{"1000 keys", "100000 keys"} {
		id := fmt.Sprintf("outbox-%s-%skeys", database, kit[:len(kit)-len(" keys")])
		g.rows = append(g.rows,
			row{id + "-vs-loop", kit, "loop", "select 100 rows, publish each, wait for its confirm and delete it"},
			row{id + "-vs-pipelined", kit, "pipelined", "select 100 rows, publish all, wait for their confirms, delete them with one statement"})
	}
	return g
}

// databaseTime compares a Relay with itself: with few waiting messages, and in the states that slow down other relays.
func databaseTime() group {
	t := side.Task{Queues: 1, Messages: stateMessages, Size: 500, Keys: 100_000, Prepare: "outbox", How: "warm"}
	million, deleted, snapshot := t, t, t
	deleted.Prepare = "deleted"
	million.Rows = manyWaiting
	snapshot.How = "snapshot"
	return group{
		queue: "quorum", queues: 1, database: "postgresql", rounds: 3,
		contenders: []contender{
			{"few", "kit/relay", t},
			{"million", "kit/relay", million},
			{"deleted", "kit/relay", deleted},
			{"snapshot", "kit/relay", snapshot},
		},
		rows: []row{
			{"outbox-database-million", "million", "few", "1,000,000 waiting messages"},
			{"outbox-database-deleted", "deleted", "few", "500,000 messages were deleted before, without a vacuum; without the first query, which passes them"},
			{"outbox-database-snapshot", "snapshot", "few", "another transaction holds a snapshot during the whole run"},
		},
	}
}

func wakeUp() group {
	t := side.Task{Queues: 1, Messages: 300, Size: 500, Keys: 1000, How: "one", Prepare: "outbox", Rows: none}
	return group{
		queue: "quorum", queues: 1, database: "postgresql", rounds: 3,
		contenders: []contender{{"kit", "kit/added", t}},
		rows:       []row{{"outbox-latency-one", "kit", "", "one message on an idle system, from the commit to the confirm"}},
	}
}

func keepingUp() group {
	t := side.Task{Queues: 1, Size: 500, Keys: 1000, How: "rate", Prepare: "outbox", Rows: none, Goroutines: 8, For: 5 * loopTime / 2}
	return group{
		queue: "quorum", queues: 1, database: "postgresql", rounds: 3,
		contenders: []contender{{"kit", "kit/added", t}},
		rows:       []row{{"outbox-latency-2000", "kit", "", "2,000 transactions per second, from Add to the confirm"}},
	}
}

func inboxBatches() group {
	t := side.Task{Queues: 1, Messages: inboxMessages, Size: 500, Rows: none}
	single, batch := t, t
	single.How, single.Messages = "single", inboxMessages/4
	batch.How = "batch"
	return group{
		queue: "quorum", queues: 1, database: "postgresql", fill: true, left: noMessages,
		contenders: []contender{{"single", "kit/inbox", single}, {"batch", "kit/inbox", batch}},
		rows:       []row{{"outbox-inbox-batch", "batch", "single", "inbox.Batch with 100 messages, against inbox.Handler with 8 workers"}},
	}
}

// aspect is "database" or "latency" for rows that measure these, and "" for rows that measure throughput.
func (c comparison) aspect() string {
	for _, aspect := range []string{"database", "latency"} {
		if strings.HasPrefix(c.Row, "outbox-"+aspect+"-") {
			return aspect
		}
	}
	return ""
}

func (c comparison) outboxHeader() []string {
	switch c.aspect() {
	case "database":
		return []string{"row", "CPU µs few waiting", "this state", "statements µs few waiting", "this state", "ratio CPU statements"}
	case "latency":
		return []string{"row", "messages/s", "p50 ms", "p99 ms"}
	}
	return []string{"row", "messages/s raw", "amqpkit", "CPU µs raw (program + database + broker)", "amqpkit", "amqpkit/raw messages/s CPU"}
}

func (c comparison) outboxCells() []string {
	switch c.aspect() {
	case "database":
		return []string{
			c.Row, fmt.Sprintf("%.1f", c.Raw.DatabaseCPU), fmt.Sprintf("%.1f", c.Kit.DatabaseCPU), fmt.Sprintf("%.1f", c.Raw.Query), fmt.Sprintf("%.1f", c.Kit.Query),
			fmt.Sprintf("%.2f  %.2f", c.databaseCPU(), c.query()),
		}
	case "latency":
		return []string{c.Row, fmt.Sprintf("%.0f", c.Kit.PerSecond), fmt.Sprintf("%.1f", c.Kit.P50/1000), fmt.Sprintf("%.1f", c.Kit.P99/1000)}
	}
	cpu := func(f figures) string { return fmt.Sprintf("%.0f + %.0f + %.0f", f.CPU, f.DatabaseCPU, f.BrokerCPU) }
	return []string{
		c.Row, fmt.Sprintf("%.0f", c.Raw.PerSecond), fmt.Sprintf("%.0f", c.Kit.PerSecond), cpu(c.Raw), cpu(c.Kit),
		fmt.Sprintf("%.2f  %.2f", c.throughput(), ratio(c.Kit.allCPU(), c.Raw.allCPU())),
	}
}

// outboxLine is the machine-readable form of a row of the outbox.
func (c comparison) outboxLine() string {
	switch c.aspect() {
	case "database":
		return fmt.Sprintf("bench %s ratio_database_cpu=%.3f ratio_query=%.3f", c.Row, c.databaseCPU(), c.query())
	case "latency":
		return fmt.Sprintf("bench %s per_second=%.0f p50_ms=%.2f p99_ms=%.2f", c.Row, c.Kit.PerSecond, c.Kit.P50/1000, c.Kit.P99/1000)
	}
	return fmt.Sprintf("bench %s ratio_throughput=%.3f ratio_cpu=%.3f", c.Row, c.throughput(), ratio(c.Kit.allCPU(), c.Raw.allCPU()))
}

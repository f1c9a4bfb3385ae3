package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

// A contender is one side of a comparison: a program under integration/bench and its task.
type contender struct {
	name    string // unique in its group
	program string // "raw/publish"
	task    side.Task
}

// A row compares two contenders of its group.
type row struct {
	name     string
	kit, raw string // raw may be empty
	note     string // describes the contenders if they are not the usual ones
}

// The contenders of a group are measured together: in each round every contender runs once, in order.
type group struct {
	queue      string // queue type
	queues     int
	fill       bool   // publish the messages before a contender starts
	cut        bool   // the broker closes the contender's connection while it runs
	reuse      bool   // all runs use the same queues, purged in between, because declaring them takes long
	left       left   // expected contents of the queues afterwards
	database   string // "postgresql", "sqlite", or "" for groups without one
	rounds     int    // the greatest number of rounds; zero means no limit
	contenders []contender
	rows       []row
}

// left is the number of messages that a contender must leave in the queues.
type left int

const (
	unchecked left = iota
	allMessages
	noMessages
)

// sizes are the body sizes, each with the number of messages for a run of about a second.
var sizes = []struct {
	name            string
	bytes, messages int
}{
	{"64B", 64, 24_000},
	{"1KiB", 1024, 24_000},
	{"64KiB", 64 * 1024, 4800},
}

var queueTypes = []string{"classic", "quorum", "stream"}

// queueCounts are the numbers of queues in the rows that vary them.
var queueCounts = []int{1, 10, 100, 1000}

// quickRows are the rows of make bench QUICK=1.
var quickRows = []string{
	"publish-quorum-1KiB-1g", "publish-quorum-1KiB-16g", "publish-quorum-1KiB-256g", "publish-quorum-1KiB-256g-vs-loop",
	"consume-quorum-1KiB", "both-quorum-1KiB", "latency-quorum-1KiB",
	"outbox-postgresql-1000keys-vs-pipelined",
}

// plan returns all groups.
func plan() []group {
	var groups []group
	for _, queue := range queueTypes {
		for _, size := range sizes {
			id := queue + "-" + size.name
			t := side.Task{Queues: 1, Stream: queue == "stream", Messages: size.messages, Size: size.bytes, Goroutines: 1, Window: 1024, Prefetch: 300}
			groups = append(groups, publishing(id, queue, t), consuming(id, queue, t), both(id, queue, t))
		}
	}
	for _, queue := range queueTypes {
		groups = append(groups, latency(queue))
	}
	groups = append(groups, recovery(), resuming())
	for _, n := range queueCounts {
		groups = append(groups, manyQueues(n)...)
	}
	return append(groups, outboxGroups()...)
}

// sameWindow returns a raw contender with as many messages in flight as n blocking goroutines have, and its description.
func sameWindow(n int, t side.Task) (c contender, note string) {
	t.Window = n
	return contender{fmt.Sprintf("window %d", n), "raw/publish", t},
		fmt.Sprintf("pipelined, at most %d messages in flight, as with %d blocking goroutines", n, n)
}

func publishing(id, queue string, t side.Task) group {
	g := group{queue: queue, queues: 1, left: allMessages, contenders: []contender{{"raw", "raw/publish", t}}}
	for _, n := range []int{1, 16, 256} {
		how := t
		how.Goroutines, how.How = n, "blocking"
		if n == 1 {
			how.How = "async"
		}
		name := fmt.Sprintf("%dg", n)
		g.contenders = append(g.contenders, contender{name, "kit/publish", how})
		r := row{"publish-" + id + "-" + name, name, "raw", ""}
		if n > 1 && t.Size == 64*1024 { // the throughput of raw is a limit there, see outcome
			same, note := sameWindow(n, t)
			g.contenders = append(g.contenders, same)
			r.raw, r.note = same.name, note
		}
		g.rows = append(g.rows, r)
	}
	if id != "quorum-1KiB" {
		return g
	}
	loop, all := t, t
	loop.Window, loop.Messages = 1, t.Messages/16
	all.How = "all"
	few, note := sameWindow(16, t)
	few.task.Messages /= 2
	g.contenders = append(g.contenders, contender{"loop", "raw/publish", loop}, few, contender{"all", "kit/publish", all})
	g.rows = append(g.rows,
		row{"publish-" + id + "-256g-vs-loop", "256g", "loop", "publish, wait for the confirm, publish the next"},
		row{"publish-" + id + "-16g-vs-window16", "16g", few.name, note},
		row{"publish-" + id + "-all", "all", "raw", "amqpkit uses PublishAll with 1,000 messages at a time"})
	return g
}

func consuming(id, queue string, t side.Task) group {
	g := group{
		queue: queue, queues: 1, fill: true, left: noMessages,
		contenders: []contender{{"raw", "raw/consume", t}, {"kit", "kit/consume", t}},
		rows:       []row{{"consume-" + id, "kit", "raw", ""}},
	}
	if t.Size == 1024 {
		multiple := t
		multiple.Multiple = 100
		g.contenders = append(g.contenders, contender{"multiple", "raw/consume", multiple})
		g.rows = append(g.rows, row{"consume-" + id + "-vs-multiple", "kit", "multiple", "one ack per 100 deliveries: a crash redelivers up to 99 processed messages"})
	}
	if id != "quorum-1KiB" {
		return g
	}
	for _, n := range []int{16, 256} {
		many := t
		many.Goroutines = n
		name := fmt.Sprintf("%dg", n)
		g.contenders = append(g.contenders, contender{"raw " + name, "raw/consume", many}, contender{"kit " + name, "kit/consume", many})
		g.rows = append(g.rows, row{"consume-" + id + "-" + name, "kit " + name, "raw " + name, fmt.Sprintf("both sides with %d workers", n)})
	}
	lanes := t
	lanes.Goroutines, lanes.How = 16, "lanes"
	g.contenders = append(g.contenders, contender{"kit lanes", "kit/consume", lanes})
	g.rows = append(g.rows, row{"consume-" + id + "-lanes", "kit lanes", "kit 16g", "16 workers and 1,000 keys, each handled in order, against amqpkit without keys"})
	defaults := t
	defaults.Prefetch, defaults.Messages = 0, t.Messages/4
	g.contenders = append(g.contenders, contender{"kit default", "kit/consume", defaults})
	g.rows = append(g.rows, row{"consume-" + id + "-default", "kit default", "raw", "amqpkit uses its default Prefetch"})
	return g
}

func both(id, queue string, t side.Task) group {
	return group{
		queue: queue, queues: 1, left: noMessages,
		contenders: []contender{{"raw", "raw/both", t}, {"kit", "kit/both", t}},
		rows:       []row{{"both-" + id, "kit", "raw", ""}},
	}
}

// againstItself is the second raw contender of a latency group. Its difference from the first one is noise.
const againstItself = "raw again"

func latency(queue string) group {
	t := side.Task{Queues: 1, Messages: 1500, Size: 1024, Goroutines: 1, Window: 1, How: "blocking"}
	return group{
		queue: queue, queues: 1, left: allMessages,
		contenders: []contender{{"raw", "raw/publish", t}, {"kit", "kit/publish", t}, {againstItself, "raw/publish", t}},
		rows:       []row{{"latency-" + queue + "-1KiB", "kit", "raw", ""}},
	}
}

const (
	cutAfter    = 500 * time.Millisecond
	loopTime    = 2500 * time.Millisecond
	libraryTime = 7 * time.Second // the library's Recovery waits for 5 to 5.5 s before it dials
)

func recovery() group {
	t := side.Task{Queues: 1, Size: 1024, For: loopTime, How: "loop"}
	library := t
	library.For, library.How = libraryTime, "library"
	return group{
		queue: "quorum", queues: 1, cut: true,
		contenders: []contender{{"raw", "raw/recover", t}, {"kit", "kit/recover", t}, {"library", "raw/recover", library}},
		rows: []row{
			{"recovery-quorum-1KiB", "kit", "raw", "a hand-written loop that dials again at once"},
			{"recovery-quorum-1KiB-vs-library", "kit", "library", "amqp091-go's own Recovery with its defaults"},
		},
	}
}

func resuming() group {
	t := side.Task{Queues: 1, Size: 1024, Messages: 5000, For: loopTime, Prefetch: 10} // more messages than milliseconds in loopTime
	return group{
		queue: "quorum", queues: 1, fill: true, cut: true,
		contenders: []contender{{"raw", "raw/resume", t}, {"kit", "kit/resume", t}},
		rows:       []row{{"recovery-quorum-1KiB-consume", "kit", "raw", "until the next delivery; a hand-written loop that dials again at once"}},
	}
}

func manyQueues(n int) []group {
	t := side.Task{Queues: n, Messages: 24_000, Size: 1024, Goroutines: 1, Window: 1024, Prefetch: 300, How: "async"}
	id := fmt.Sprintf("classic-1KiB-%dq", n)
	return []group{
		{
			queue: "classic", queues: n, reuse: true, left: allMessages,
			contenders: []contender{{"raw", "raw/publish", t}, {"kit", "kit/publish", t}},
			rows:       []row{{"publish-" + id, "kit", "raw", ""}},
		},
		{
			queue: "classic", queues: n, reuse: true, fill: true, left: noMessages,
			contenders: []contender{{"raw", "raw/consume", t}, {"kit", "kit/consume", t}},
			rows:       []row{{"consume-" + id, "kit", "raw", ""}},
		},
	}
}

// only returns the groups reduced to the rows that keep selects, and to the contenders of these rows.
func only(groups []group, keep func(row string) bool) []group {
	var kept []group
	for _, g := range groups {
		g.rows = slices.DeleteFunc(slices.Clone(g.rows), func(r row) bool { return !keep(r.name) })
		if len(g.rows) == 0 {
			continue
		}
		g.contenders = slices.DeleteFunc(slices.Clone(g.contenders), func(c contender) bool {
			name := strings.TrimSuffix(strings.TrimSuffix(c.name, baseAgain), onBase)
			return c.name != againstItself && !slices.ContainsFunc(g.rows, func(r row) bool { return r.kit == name || r.raw == name })
		})
		kept = append(kept, g)
	}
	return kept
}

// scaled multiplies the number of messages in each run by factor and rounds it to a multiple of the number of queues. Groups
// that measure recovery have a fixed duration and are not changed.
func scaled(groups []group, factor float64) []group {
	for _, g := range groups {
		if g.cut {
			continue
		}
		for i, c := range g.contenders {
			perQueue := float64(c.task.Messages) * factor / float64(g.queues)
			g.contenders[i].task.Messages = max(1, int(perQueue)) * g.queues
		}
	}
	return groups
}

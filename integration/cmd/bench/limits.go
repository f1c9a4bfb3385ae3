package main

import (
	"fmt"
	"io"
	"strings"
)

// A limit is a promise about the figures of a row. make bench fails if one is missed.
type limit struct {
	row   string // the row, or its end after a *
	what  string
	of    func(c comparison) float64
	bound float64
	most  bool // bound is the highest value, otherwise the lowest
}

// limits hold on two processors that the programs share with the database and the broker.
var limits = []limit{
	{"outbox-postgresql-*-vs-pipelined", "messages/s", func(c comparison) float64 { return c.Kit.PerSecond }, 12_000, false},
	{"outbox-postgresql-*-vs-pipelined", "throughput", comparison.throughput, 1.3, false},
	{"outbox-postgresql-*-vs-loop", "throughput", comparison.throughput, 15, false},
	{"outbox-database-*", "database CPU", comparison.databaseCPU, 1.5, true},
	{"outbox-latency-one", "p50 ms", func(c comparison) float64 { return c.Kit.P50 / 1000 }, 5, true},
	{"outbox-latency-2000", "p99 ms", func(c comparison) float64 { return c.Kit.P99 / 1000 }, 100, true},
	{"outbox-latency-2000", "messages/s", func(c comparison) float64 { return c.Kit.PerSecond }, 1900, false},
	{"outbox-inbox-batch", "throughput", comparison.throughput, 2.5, false},
}

func (l limit) concerns(row string) bool {
	begin, end, found := strings.Cut(l.row, "*")
	return row == l.row || found && len(row) >= len(begin)+len(end) && strings.HasPrefix(row, begin) && strings.HasSuffix(row, end)
}

// text states the limit.
func (l limit) text() string {
	word := "at least"
	if l.most {
		word = "at most"
	}
	return fmt.Sprintf("%s %s %g", l.what, word, l.bound)
}

// printLimits prints the rows that have limits and returns an error if a row misses one.
func (r report) printLimits(w io.Writer) error {
	missed := 0
	for _, c := range r.Rows {
		for _, l := range limits {
			if !l.concerns(c.Row) {
				continue
			}
			outcome := "ok"
			if value := l.of(c); l.most && value > l.bound || !l.most && value < l.bound {
				outcome = "MISSED"
				missed++
			}
			fmt.Fprintf(w, "limit %s %.2f, %s: %s\n", c.Row, l.of(c), l.text(), outcome)
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d limits are missed; they hold for a machine without other load", missed)
	}
	return nil
}

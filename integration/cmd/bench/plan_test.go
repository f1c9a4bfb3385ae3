package main

import (
	"slices"
	"strings"
	"testing"
)

func TestRowsAreUniqueAndCompareContendersOfTheirGroup(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range plan() {
		names := map[string]bool{}
		for _, c := range g.contenders {
			if names[c.name] {
				t.Errorf("%s: two contenders are called %q", g.rows[0].name, c.name)
			}
			names[c.name] = true
			if c.task.Queues != g.queues || c.task.Messages%g.queues != 0 {
				t.Errorf("%s, %s: %d messages over %d queues, the group has %d", g.rows[0].name, c.name, c.task.Messages, c.task.Queues, g.queues)
			}
		}
		for _, r := range g.rows {
			if seen[r.name] {
				t.Errorf("two rows are called %s", r.name)
			}
			seen[r.name] = true
			if !names[r.kit] || r.raw != "" && !names[r.raw] {
				t.Errorf("%s compares %q and %q, of %v", r.name, r.kit, r.raw, names)
			}
		}
	}
	for _, name := range quickRows {
		if !seen[name] {
			t.Errorf("no row %s", name)
		}
	}
	for _, name := range []string{"publish-classic-64B-16g", "publish-stream-64KiB-256g", "both-stream-1KiB", "consume-classic-1KiB-1000q", "outbox-sqlite-100000keys-vs-pipelined"} {
		if !seen[name] {
			t.Errorf("no row %s", name)
		}
	}
}

func TestOnlyKeepsTheContendersOfItsRows(t *testing.T) {
	groups := only(plan(), func(row string) bool { return row == "publish-quorum-1KiB-256g" || row == "latency-quorum-1KiB" })
	var got []string
	for _, g := range groups {
		for _, c := range g.contenders {
			got = append(got, c.name)
		}
	}
	if want := []string{"raw", "256g", "raw", "kit", againstItself}; !slices.Equal(got, want) {
		t.Errorf("contenders = %q, want %q", got, want)
	}
}

func TestScaledMessagesAreAMultipleOfTheQueues(t *testing.T) {
	for _, g := range scaled(plan(), 0.001) {
		if g.cut {
			continue
		}
		for _, c := range g.contenders {
			if n := c.task.Messages; n < g.queues || n%g.queues != 0 {
				t.Errorf("%s, %s: %d messages over %d queues", g.rows[0].name, c.name, n, g.queues)
			}
		}
	}
}

func TestSixteenGoroutinesAreComparedWithSixteenMessagesInFlightWhereRawIsALimit(t *testing.T) {
	for _, g := range plan() {
		for _, r := range g.rows {
			if !strings.Contains(r.name, "-64KiB-16g") {
				continue
			}
			for _, c := range g.contenders {
				if c.name == r.raw && c.task.Window != 16 {
					t.Errorf("%s is compared with %d messages in flight", r.name, c.task.Window)
				}
			}
		}
	}
}

func TestEachLimitConcernsRows(t *testing.T) {
	for _, l := range limits {
		n := 0
		for _, g := range plan() {
			for _, r := range g.rows {
				if l.concerns(r.name) {
					n++
				}
			}
		}
		if n == 0 {
			t.Errorf("no row %s", l.row)
		}
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// A report is the result of a run.
type report struct {
	Environment string       `json:"environment"`
	Rows        []comparison `json:"rows"`
}

func load(file string) (r report, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return report{}, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return report{}, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// print writes the tables, followed by the machine-readable lines.
func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", r.Environment)
	for _, t := range r.tables() {
		fmt.Fprintf(w, "%s\n%s\n", t.title, t.text())
	}
	r.printSpread(w)
	for _, c := range r.Rows {
		fmt.Fprintln(w, c.line())
	}
}

// printSpread prints the range of the rounds of each row, and names the rows whose range is too large.
func (r report) printSpread(w io.Writer) {
	var unstable []string
	var s strings.Builder
	table := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "row\tmedian (min..max)\trounds")
	for _, c := range r.Rows {
		if c.Ratios == nil {
			continue
		}
		fmt.Fprintf(table, "%s\t%v\t%d\n", c.Row, *c.Ratios, c.Rounds)
		if !c.Ratios.stable() {
			unstable = append(unstable, c.Row)
		}
	}
	_ = table.Flush() // into memory
	if strings.Count(s.String(), "\n") < 2 {
		return
	}
	fmt.Fprintf(w, "amqpkit/raw in each round: messages per second, p50 for latency, gap for recovery\n%s", s.String())
	if len(unstable) > 0 {
		fmt.Fprintf(w, "UNSTABLE: the rounds of %s differ from their median by more than %.0f %%. Do not compare these\n"+
			"figures: the machine was too busy, or the rounds too few. make bench without QUICK runs more.\n", strings.Join(unstable, ", "), 100*stableWithin)
	}
	fmt.Fprintln(w)
}

// A table has ratios in its last column: amqpkit divided by amqp091-go.
type table struct {
	title  string
	header []string
	rows   [][]string
	notes  []string
}

// sections are the tables in order, with a filter for their rows.
var sections = []struct {
	title string
	has   func(c comparison) bool
}{
	{"Publishing", func(c comparison) bool { return c.work() == "publish" && !c.manyQueues() }},
	{"Consuming", func(c comparison) bool { return c.work() == "consume" && !c.manyQueues() }},
	{"Publishing and consuming at once", func(c comparison) bool { return c.work() == "both" }},
	{"Latency of a lone confirmed publish", func(c comparison) bool { return c.work() == "latency" }},
	{"Recovery after a forced close", func(c comparison) bool { return c.work() == "recovery" }},
	{"Many queues", comparison.manyQueues},
	{"Outbox and inbox: throughput", func(c comparison) bool { return c.work() == "outbox" && c.aspect() == "" }},
	{"Outbox: time of PostgreSQL", func(c comparison) bool { return c.aspect() == "database" }},
	{"Outbox: latency", func(c comparison) bool { return c.work() == "outbox" && c.aspect() == "latency" }},
}

func (r report) tables() []table {
	var tables []table
	for _, s := range sections {
		var rows []comparison
		for _, c := range r.Rows {
			if s.has(c) {
				rows = append(rows, c)
			}
		}
		if len(rows) > 0 {
			tables = append(tables, newTable(s.title, rows))
		}
	}
	return tables
}

func newTable(title string, rows []comparison) table {
	t := table{title: title}
	for _, c := range rows {
		switch c.work() {
		case "latency":
			t.header = []string{"row", "p50 µs raw", "amqpkit", "p99 µs raw", "amqpkit", "raw/raw p50 p99 (p99 of a round)", "amqpkit/raw p50 p99"}
			t.rows = append(t.rows, latencyCells(c))
		case "recovery":
			t.header = []string{"row", "gap ms raw", "amqpkit", "amqpkit/raw"}
			t.rows = append(t.rows, []string{c.Row, fmt.Sprintf("%.1f", c.Raw.Gap), fmt.Sprintf("%.1f", c.Kit.Gap), fmt.Sprintf("%.3f", c.gap())})
		case "outbox":
			t.header, t.rows = c.outboxHeader(), append(t.rows, c.outboxCells())
		default:
			t.header = []string{"row", "messages/s raw", "amqpkit", "CPU µs raw", "amqpkit", "allocs raw", "amqpkit", "amqpkit/raw messages/s CPU allocs"}
			t.rows = append(t.rows, []string{
				c.Row, fmt.Sprintf("%.0f", c.Raw.PerSecond), fmt.Sprintf("%.0f", c.Kit.PerSecond),
				fmt.Sprintf("%.1f", c.Raw.CPU), fmt.Sprintf("%.1f", c.Kit.CPU),
				fmt.Sprintf("%.1f", c.Raw.Allocs), fmt.Sprintf("%.1f", c.Kit.Allocs),
				fmt.Sprintf("%.2f  %.2f  %.2f", c.throughput(), c.cpu(), c.allocs()),
			})
		}
		if c.Note != "" {
			t.notes = append(t.notes, c.Row+": "+c.Note)
		}
	}
	return t
}

func latencyCells(c comparison) []string {
	aa := ""
	if c.AA != nil {
		aa = fmt.Sprintf("%.2f  %.2f  (%.2f–%.2f)", c.AA.P50, c.AA.P99, c.AA.P99Min, c.AA.P99Max)
	}
	return []string{
		c.Row, fmt.Sprintf("%.0f", c.Raw.P50), fmt.Sprintf("%.0f", c.Kit.P50), fmt.Sprintf("%.0f", c.Raw.P99), fmt.Sprintf("%.0f", c.Kit.P99),
		aa, fmt.Sprintf("%.2f  %.2f", c.p50(), c.p99()),
	}
}

// text returns the table for a terminal.
func (t table) text() string {
	var s strings.Builder
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.header}, t.rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // into memory
	for _, n := range t.notes {
		fmt.Fprintln(&s, "  "+n)
	}
	return s.String()
}

// markdown returns the table for a page.
func (t table) markdown() string {
	var s strings.Builder
	fmt.Fprintf(&s, "## %s\n\n| %s |\n|---|%s\n", t.title, strings.Join(t.header, " | "), strings.Repeat("---:|", len(t.header)-1))
	for _, row := range t.rows {
		fmt.Fprintf(&s, "| %s |\n", strings.Join(row, " | "))
	}
	if len(t.notes) > 0 {
		fmt.Fprintln(&s)
	}
	for _, n := range t.notes {
		fmt.Fprintln(&s, "- "+n)
	}
	return s.String()
}

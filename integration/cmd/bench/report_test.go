package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sample() report {
	c := func(row string) comparison {
		return comparison{
			Row: row, Rounds: 5,
			Raw: figures{PerSecond: 20000, CPU: 10, Allocs: 30, P50: 500, P99: 900, Gap: 10},
			Kit: figures{PerSecond: 30000, CPU: 5, Allocs: 33, P50: 500, P99: 1800, Gap: 20},
		}
	}
	r := report{Environment: "on a fast machine"}
	for _, row := range []string{
		"publish-quorum-1KiB-1g", "consume-quorum-1KiB", "both-quorum-1KiB", "latency-quorum-1KiB", "recovery-quorum-1KiB",
		"publish-classic-1KiB-10q", "consume-classic-1KiB-10q", "outbox-sqlite-1000keys-vs-loop", "outbox-database-million", "outbox-latency-one",
	} {
		r.Rows = append(r.Rows, c(row))
	}
	r.Rows[0].Note = "a note"
	r.Rows[3].AA = &spread{1.01, 0.9, 0.8, 1.2}
	return r
}

func TestEveryRowIsInOneTableWithItsRatioLast(t *testing.T) {
	want := map[string]string{
		"publish-quorum-1KiB-1g":   "1.50  0.50  1.10",
		"latency-quorum-1KiB":      "1.00  2.00",
		"recovery-quorum-1KiB":     "2.000",
		"publish-classic-1KiB-10q": "1.50  0.50  1.10",
	}
	seen := map[string]int{}
	for _, table := range sample().tables() {
		for _, row := range table.rows {
			if len(row) != len(table.header) {
				t.Errorf("%s has %d cells, its header %d", row[0], len(row), len(table.header))
			}
			seen[row[0]]++
			if last := row[len(row)-1]; want[row[0]] != "" && last != want[row[0]] {
				t.Errorf("%s: the last cell is %q, want %q", row[0], last, want[row[0]])
			}
		}
	}
	for _, c := range sample().Rows {
		if seen[c.Row] != 1 {
			t.Errorf("%s is in %d tables", c.Row, seen[c.Row])
		}
	}
}

func TestPrintEndsWithTheMachineReadableLines(t *testing.T) {
	var out strings.Builder
	sample().print(&out)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, c := range sample().Rows {
		if got := lines[len(lines)-len(sample().Rows)+i]; got != c.line() {
			t.Errorf("line %q, want %q", got, c.line())
		}
	}
}

func TestOnlyTheMeasuredPartIsReplaced(t *testing.T) {
	page := "mine\n" + measuredBegin + "old\n" + measuredEnd + "profile\n"
	got, err := replaceMeasured(page, "new\n")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got, "old") || !strings.HasPrefix(got, "mine\n") || !strings.HasSuffix(got, "profile\n") || !strings.Contains(got, "new") {
		t.Errorf("page = %q", got)
	}
	if _, err := replaceMeasured("by hand\n", "new\n"); err == nil {
		t.Error("a page without the two lines was overwritten")
	}
}

func TestMarkdownShowsItsChartsAndTables(t *testing.T) {
	r := sample()
	page := r.markdown(r.charts())
	for _, want := range []string{
		"on a fast machine", "](benchmarks-throughput.png)", "](benchmarks-queues.png)", "](benchmarks-many.png)",
		"| publish-quorum-1KiB-1g | 20000 | 30000 | 10.0 | 5.0 | 30.0 | 33.0 | 1.50  0.50  1.10 |",
		"- publish-quorum-1KiB-1g: a note",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
}

func TestChartsHaveAValueForEachLabelOrX(t *testing.T) {
	for _, c := range sample().charts() {
		for _, s := range c.Series {
			if len(s.Values) != len(c.Labels)+len(c.X) {
				t.Errorf("%s, %s: %d values for %d places", c.File, s.Name, len(s.Values), len(c.Labels)+len(c.X))
			}
		}
	}
	if charts := (report{}).charts(); len(charts) != 0 {
		t.Errorf("charts of an empty report: %v", charts)
	}
}

func TestLoadReadsTheOutputOfWrite(t *testing.T) {
	dir := t.TempDir()
	draw := filepath.Join(dir, "charts")
	if err := os.WriteFile(draw, []byte("#!/bin/sh\ncat >/dev/null\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := sample()
	if err := want.write(t.Context(), dir, drawer(draw)); err != nil {
		t.Fatal(err)
	}
	got, err := load(filepath.Join(dir, "benchmarks.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Environment != want.Environment || len(got.Rows) != len(want.Rows) || *got.Rows[3].AA != *want.Rows[3].AA {
		t.Errorf("load = %+v, want %+v", got, want)
	}
	page, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil || !strings.HasPrefix(string(page), preface) {
		t.Errorf("benchmarks.md = %q, %v", page, err)
	}
}

func TestAMissedLimitIsAnError(t *testing.T) {
	r := sample()
	if err := r.printLimits(io.Discard); err != nil {
		t.Fatal(err)
	}
	r.Rows[len(r.Rows)-1].Kit.P50 = 6000
	var out strings.Builder
	err := r.printLimits(&out)
	if want := "limit outbox-latency-one 6.00, p50 ms at most 5: MISSED\n"; err == nil || !strings.Contains(out.String(), want) {
		t.Errorf("printed %q, %v, want %q and an error", out.String(), err, want)
	}
}

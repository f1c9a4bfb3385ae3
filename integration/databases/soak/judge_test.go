package soak

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// history returns the changes of one item, with consecutive versions, and the row that they leave.
func history(item int64, kinds ...string) table {
	t := table{rows: map[int64]change{}}
	for i, kind := range kinds {
		c := change{Item: item, Version: int64(i) + 1, Name: kind + string(rune('a'+i)), Kind: kind}
		t.changes = append(t.changes, c)
		if c.Kind = ""; kind == deleted {
			delete(t.rows, item)
		} else {
			t.rows[item] = c
		}
	}
	return t
}

func TestJudgeCountsDifferencesBetweenTheDatabases(t *testing.T) {
	committed := history(7, inserted, updated, deleted, inserted)
	change1, change2, change3, change4 := committed.changes[0], committed.changes[1], committed.changes[2], committed.changes[3]
	stranger := change{Item: 7, Version: 2, Name: "rolled back", Kind: updated}
	for name, c := range map[string]struct {
		applied []change
		want    Result
		reason  string
	}{
		"equal":        {[]change{change1, change2, change3, change4}, Result{}, ""},
		"missing":      {[]change{change1, change3, change4}, Result{Missing: 1}, "failed: missing: {Item:7 Version:2"},
		"duplicated":   {[]change{change1, change2, change1, change3, change4}, Result{Duplicated: 1}, "failed: duplicated: {Item:7 Version:1"},
		"phantom":      {[]change{change1, stranger, change2, change3, change4}, Result{Phantom: 1}, "failed: phantom: {Item:7 Version:2 Name:rolled back"},
		"out of order": {[]change{change1, change3, change2, change4}, Result{OutOfOrder: 1}, "failed: out of order: {Item:7 Version:2"},
		"nothing":      {nil, Result{Missing: 4}, "failed: missing"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Result{Verdict: Valid}
			r.compare(committed, table{rows: maps.Clone(committed.rows), changes: c.applied})
			got := Result{Missing: r.Missing, Duplicated: r.Duplicated, Phantom: r.Phantom, OutOfOrder: r.OutOfOrder, Different: r.Different}
			if got.Missing != c.want.Missing || got.Duplicated != c.want.Duplicated || got.Phantom != c.want.Phantom || got.OutOfOrder != c.want.OutOfOrder || got.Different != 0 {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if r.Committed != 4 || r.Applied != len(c.applied) {
				t.Errorf("%d committed, %d applied", r.Committed, r.Applied)
			}
			if c.reason == "" {
				if r.Verdict != Valid || len(r.Reasons) > 0 {
					t.Errorf("%s: %q, want valid", r.Verdict, r.Reasons)
				}
			} else if r.Verdict != Failed || !slices.ContainsFunc(r.Reasons, func(s string) bool { return strings.HasPrefix(s, c.reason) }) {
				t.Errorf("%s: %q, want %q", r.Verdict, r.Reasons, c.reason)
			}
		})
	}
}

func TestJudgeComparesTheRows(t *testing.T) {
	a := history(7, inserted, updated)
	for name, rows := range map[string]map[int64]change{
		"row missing":     {},
		"old row":         {7: {Item: 7, Version: 1, Name: "inserta"}},
		"row left behind": {7: a.rows[7], 8: {Item: 8, Version: 1, Name: "x"}},
	} {
		r := &Result{Verdict: Valid}
		r.compare(a, table{rows: rows, changes: a.changes})
		if r.Verdict != Failed || r.Different != 1 || r.Missing+r.Duplicated+r.Phantom+r.OutOfOrder != 0 {
			t.Errorf("%s: %+v, want one different row", name, r)
		}
	}
}

func TestJudgeRefusesRunsInWhichLittleHappened(t *testing.T) {
	r := &Result{Verdict: Valid}
	r.require("faults", 1, 2)
	if r.Verdict != Invalid || len(r.Reasons) != 1 {
		t.Errorf("%s: %q, want invalid", r.Verdict, r.Reasons)
	}
	r.reason(Failed, "missing")
	r.require("faults", 1, 2)
	if r.Verdict != Failed {
		t.Errorf("%s, want failed, which overrides invalid", r.Verdict)
	}
}

func TestJudgeReportsCopiesWithoutAFault(t *testing.T) {
	for _, c := range []struct {
		calm, repeated int
		want           string
	}{{100, 0, Valid}, {100, 5, Valid}, {100, 6, Failed}, {0, 0, Valid}} {
		r := &Result{Verdict: Valid, Calm: c.calm, Repeated: c.repeated}
		if r.judgeCalm(); r.Verdict != c.want {
			t.Errorf("%d copies of %d: %s, want %s", c.repeated, c.calm, r.Verdict, c.want)
		}
	}
}

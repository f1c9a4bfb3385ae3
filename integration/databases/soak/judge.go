package soak

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
)

// Verdicts.
const (
	Valid   = "valid"   // the databases agree, and every minimum was reached
	Invalid = "invalid" // too little happened
	Failed  = "failed"  // the databases differ
)

// A Result is the judgement of a run. The command prints it as its last line.
type Result struct {
	Verdict string `json:"verdict"`

	Committed  int `json:"committed"`   // changes in database A
	RolledBack int `json:"rolled_back"` // transactions that were rolled back on purpose
	Applied    int `json:"applied"`     // changes in database B

	Missing    int `json:"missing"`      // changes that were committed but not applied
	Duplicated int `json:"duplicated"`   // changes that were applied again
	Phantom    int `json:"phantom"`      // changes that were applied but not committed
	OutOfOrder int `json:"out_of_order"` // changes that were applied after a later change of their row
	Different  int `json:"different"`    // rows that differ at the end

	Calm     int `json:"calm"`     // messages published before the first fault
	Repeated int `json:"repeated"` // copies of them

	Removed int `json:"removed"` // redeliveries and copies that the inbox removed
	Retried int `json:"retried"` // transactions that a fault made fail

	Faults   int            `json:"faults"`
	ByKind   map[string]int `json:"faults_by_kind"`
	Database string         `json:"database"`
	Broker   string         `json:"broker"`
	Seed     uint64         `json:"seed"`
	Seconds  float64        `json:"seconds"` // of the phase with faults
	Drained  float64        `json:"drained"` // seconds after it until the databases agreed, or until the bound
	Reasons  []string       `json:"reasons,omitempty"`
}

// A table is the rows and the changes of a database.
type table struct {
	rows    map[int64]change // by item; without Kind
	changes []change         // in database A ordered by item and version, in database B in the order of application
}

func readTable(ctx context.Context, d *database, changes string) (t table, err error) {
	db, err := d.open(1)
	if err != nil {
		return t, err
	}
	defer db.Close()
	if t.changes, err = readChanges(ctx, db, changes); err != nil {
		return t, err
	}
	rows, err := readChanges(ctx, db, "SELECT id, version, name, '' FROM items")
	t.rows = map[int64]change{}
	for _, r := range rows {
		t.rows[r.Item] = r
	}
	return t, err
}

func readChanges(ctx context.Context, db *sql.DB, query string) (list []change, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c change
		if err := rows.Scan(&c.Item, &c.Version, &c.Name, &c.Kind); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

// compare counts the differences between the databases.
func (r *Result) compare(a, b table) {
	r.Committed, r.Applied = len(a.changes), len(b.changes)
	known := make(map[change]bool, len(a.changes))
	last := map[int64]int64{} // the latest version of each item
	for _, c := range a.changes {
		if c.Version != last[c.Item]+1 {
			r.reason(Invalid, "database A: change %d of item %d follows change %d", c.Version, c.Item, last[c.Item])
		}
		last[c.Item] = c.Version
		known[c] = true
	}
	seen := make(map[change]bool, len(b.changes))
	last = map[int64]int64{}
	for _, c := range b.changes {
		switch {
		case !known[c]:
			r.find(&r.Phantom, "phantom: %+v was applied but not committed", c)
		case seen[c]:
			r.find(&r.Duplicated, "duplicated: %+v", c)
		case c.Version < last[c.Item]:
			r.find(&r.OutOfOrder, "out of order: %+v was applied after version %d", c, last[c.Item])
		}
		if known[c] {
			seen[c] = true
			last[c.Item] = max(last[c.Item], c.Version)
		}
	}
	for _, c := range a.changes {
		if !seen[c] {
			r.find(&r.Missing, "missing: %+v", c)
		}
	}
	items := maps.Clone(a.rows)
	maps.Copy(items, b.rows)
	for _, item := range slices.Sorted(maps.Keys(items)) {
		if a.rows[item] != b.rows[item] {
			r.find(&r.Different, "different: %+v in database A, %+v in database B", a.rows[item], b.rows[item])
		}
	}
}

// shown is the number of findings of a kind that get a reason.
const shown = 3

// find counts a finding.
func (r *Result) find(count *int, format string, args ...any) {
	if *count++; *count <= shown {
		r.reason(Failed, format, args...)
	}
}

// reason adds a reason for a verdict. Failed overrides Invalid.
func (r *Result) reason(verdict, format string, args ...any) {
	if r.Verdict != Failed {
		r.Verdict = verdict
	}
	r.Reasons = append(r.Reasons, verdict+": "+fmt.Sprintf(format, args...))
}

// require makes the run invalid if too little of something happened.
func (r *Result) require(what string, n, least int) {
	if n < least {
		r.reason(Invalid, "%s: %d, want at least %d", what, n, least)
	}
}

// judgeCalm checks that messages were published once before the first fault. A machine that is overloaded for the
// duration of a lease may cause a few copies.
func (r *Result) judgeCalm() {
	if r.Repeated > r.Calm/20 {
		r.reason(Failed, "repeated: %d copies of %d messages were published without a fault", r.Repeated, r.Calm)
	}
}

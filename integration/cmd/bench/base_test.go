package main

import (
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

func TestBaseRunsAfterTheSameProgramOfToday(t *testing.T) {
	groups := withBase(plan())
	for _, g := range groups {
		for i, c := range g.contenders {
			if program, ok := strings.CutPrefix(c.program, "kit/"); ok {
				if next := g.contenders[i+1]; next.program != "base/"+program || next.task != c.task || next.name != c.name+onBase {
					t.Errorf("%s is followed by %+v", c.name, next)
				}
			}
		}
	}
	if n := len(plan()) - len(groups); n != 2+len(outboxGroups()) {
		t.Errorf("%d groups are not compared, want the two of recovery and those with a database", n)
	}
}

func TestRowThatMissesALimitIsAnError(t *testing.T) {
	result := func(perSecond int, cpu time.Duration) side.Result {
		return side.Result{Messages: perSecond, Wall: time.Second, CPU: cpu * time.Duration(perSecond)}
	}
	for _, test := range []struct {
		row       string
		kit, base side.Result
		want      string
	}{
		{"consume-quorum-1KiB", result(960, 103), result(1000, 100), "throughput=0.960 (0.960..0.960) cpu=1.030 (1.030..1.030) raw_throughput=0.960 rounds=1 ok"},
		{"consume-quorum-1KiB", result(940, 100), result(1000, 100), "SLOWER"},
		{"consume-quorum-1KiB", result(1000, 104), result(1000, 100), "SLOWER"},
		{"consume-quorum-64KiB", result(990, 100), result(1000, 100), "SLOWER than raw"},
	} {
		c := compare(row{name: test.row, kit: "kit", raw: "raw"}, map[string][]side.Result{
			"kit": {test.kit}, "kit" + onBase: {test.base}, "raw": {result(1000, 100)},
		})
		var out strings.Builder
		err := report{Rows: []comparison{c}}.printChanges(&out)
		if !strings.HasSuffix(out.String(), test.want+"\n") || (err == nil) != strings.HasSuffix(test.want, " ok") {
			t.Errorf("%v, printed %q, want %q", err, &out, test.want)
		}
	}
}

package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

func TestBaseRunsBeforeAndAfterTheSameProgramOfToday(t *testing.T) {
	groups := withBase(plan())
	for _, g := range groups {
		for i, c := range g.contenders {
			program, ok := strings.CutPrefix(c.program, "kit/")
			if !ok {
				continue
			}
			for at, want := range map[int]contender{i - 1: {c.name + onBase, "base/" + program, c.task}, i + 1: {c.name + baseAgain, "base/" + program, c.task}} {
				if g.contenders[at] != want {
					t.Errorf("beside %s is %+v, want %+v", c.name, g.contenders[at], want)
				}
			}
		}
	}
	if n := len(plan()) - len(groups); n != 2+len(outboxGroups()) {
		t.Errorf("%d groups are not compared, want the two of recovery and those with a database", n)
	}
}

func TestOnlyARowThatIsCertainlySlowerIsAnError(t *testing.T) {
	result := func(perSecond int, cpu time.Duration) side.Result {
		return side.Result{Messages: perSecond, Wall: time.Second, CPU: cpu * time.Duration(perSecond)}
	}
	base := result(1000, 100)
	for _, test := range []struct {
		row  string
		kit  []side.Result
		want string
	}{
		{"consume-quorum-1KiB", []side.Result{result(960, 103)}, "throughput=0.960(0.960..0.960) cpu=1.030(1.030..1.030) " +
			"control_throughput=1.000(1.000..1.000) control_cpu=1.000(1.000..1.000) raw_throughput=0.960(0.960..0.960) rounds=1 ok"},
		{"consume-quorum-1KiB", []side.Result{result(940, 100)}, "SLOWER"},
		{"consume-quorum-1KiB", []side.Result{result(1000, 104)}, "SLOWER"},
		{"consume-quorum-1KiB", []side.Result{result(940, 100), result(930, 100), result(950, 100)}, "unclear"},
		{"consume-quorum-1KiB", []side.Result{result(1000, 104), result(1000, 105), result(1000, 103)}, "unclear"},
		{"consume-quorum-64KiB", []side.Result{result(990, 100)}, "SLOWER"},
		{"consume-quorum-64KiB", []side.Result{result(990, 100), result(980, 100), result(1000, 100)}, "unclear"},
	} {
		same := slices.Repeat([]side.Result{base}, len(test.kit))
		c := compare(row{name: test.row, kit: "kit", raw: "raw"}, map[string][]side.Result{
			"kit": test.kit, "kit" + onBase: same, "kit" + baseAgain: same, "raw": same,
		})
		var out strings.Builder
		err := report{Rows: []comparison{c}}.printChanges(&out)
		if !strings.HasSuffix(out.String(), test.want+"\n") || (err != nil) != (test.want == "SLOWER") {
			t.Errorf("%v, printed %q, want %q", err, &out, test.want)
		}
	}
}

func TestIntervalOfTheMedian(t *testing.T) {
	for n, outside := range map[int]int{1: 0, 3: 0, 5: 0, 8: 0, 9: 1, 20: 5, 100: 39} { // from tables of the sign test, two-sided 5 %
		var values []float64
		for i := range n {
			values = append(values, float64(i))
		}
		if low, high := interval(values); low != float64(outside) || high != float64(n-1-outside) {
			t.Errorf("%d values: %v..%v, want %d..%d", n, low, high, outside, n-1-outside)
		}
	}
}

func TestRowsThatMissedALimitAreMeasuredAgain(t *testing.T) {
	g := withBase(only(plan(), regexp.MustCompile(`^publish-quorum-1KiB-(1|16)g$`).MatchString))[0]
	result := func(perSecond int) []side.Result {
		return []side.Result{{Messages: perSecond, Wall: time.Second, CPU: time.Second}}
	}
	results := map[string][]side.Result{"raw": result(1000)}
	for _, c := range g.contenders {
		results[c.name] = result(1000)
	}
	if rest, ok := g.missed(results); ok {
		t.Errorf("measured again: %+v", rest.rows)
	}
	results["16g"] = result(900)
	rest, ok := g.missed(results)
	var names []string
	for _, c := range rest.contenders {
		names = append(names, c.name)
	}
	if want := []string{"raw", "16g" + onBase, "16g", "16g" + baseAgain}; !ok || len(rest.rows) != 1 || !slices.Equal(names, want) {
		t.Errorf("measured again: %+v with %q, want 16g with %q", rest.rows, names, want)
	}
}

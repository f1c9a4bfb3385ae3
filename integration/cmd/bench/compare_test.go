package main

import (
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestRatiosCompareMediansPerMessage(t *testing.T) {
	raw := []side.Result{
		{Messages: 100, Wall: time.Second, CPU: 400 * time.Microsecond, Allocs: 1000},
		{Messages: 100, Wall: 2 * time.Second, CPU: 800 * time.Microsecond, Allocs: 2000},
		{Messages: 100, Wall: 9 * time.Second, CPU: 9 * time.Second, Allocs: 9000}, // an outlier, which does not change the median
	}
	kit := []side.Result{{Messages: 300, Wall: 2 * time.Second, CPU: 1200 * time.Microsecond, Allocs: 3000}}
	c := compare(row{name: "publish-quorum-1KiB-256g", kit: "k", raw: "r"}, map[string][]side.Result{"r": raw, "k": kit})
	if c.Raw != (figures{PerSecond: 50, CPU: 8, Allocs: 20}) {
		t.Errorf("raw = %+v", c.Raw)
	}
	if c.Kit != (figures{PerSecond: 150, CPU: 4, Allocs: 10}) {
		t.Errorf("kit = %+v", c.Kit)
	}
	want := "bench publish-quorum-1KiB-256g ratio_throughput=3.000 ratio_cpu=0.500 ratio_allocs=0.500 rounds=1 median=1.500 min=1.500 max=1.500"
	if got := c.line(); got != want {
		t.Errorf("line = %q, want %q", got, want)
	}
}

func TestS101RowsAreStableWithin15PercentOfTheirMedian(t *testing.T) {
	result := func(perSecond int) side.Result { return side.Result{Messages: perSecond, Wall: time.Second} }
	for _, test := range []struct {
		kit, raw []side.Result
		want     string
		stable   bool
	}{
		{[]side.Result{result(130), result(260), result(120)}, []side.Result{result(100), result(200), result(100)}, "1.30 (1.20..1.30)", true},
		{[]side.Result{result(81), result(117), result(140)}, []side.Result{result(100), result(100), result(100)}, "1.17 (0.81..1.40)", false},
		{[]side.Result{result(100), result(100), result(120)}, []side.Result{result(100), result(100), result(100)}, "1.00 (1.00..1.20)", false},
	} {
		c := compare(row{name: "consume-quorum-1KiB", kit: "kit", raw: "raw"}, map[string][]side.Result{"kit": test.kit, "raw": test.raw})
		if got := c.Ratios.String(); got != test.want || c.Ratios.stable() != test.stable {
			t.Errorf("%s, stable %v; want %s, %v", got, c.Ratios.stable(), test.want, test.stable)
		}
		var out strings.Builder
		report{Rows: []comparison{c}}.print(&out)
		if !strings.Contains(out.String(), test.want) || strings.Contains(out.String(), "UNSTABLE: the rounds of consume-quorum-1KiB") == test.stable {
			t.Errorf("the row is not reported as stable or unstable as expected:\n%s", &out)
		}
	}
	c := compare(row{name: "recovery-quorum-1KiB", kit: "kit", raw: "raw"}, map[string][]side.Result{
		"kit": {{Gap: 20 * time.Millisecond}}, "raw": {{Gap: 10 * time.Millisecond}},
	})
	if c.Ratios.Median != 2 {
		t.Errorf("the gaps' ratio is %v, want 2", c.Ratios)
	}
}

func TestLatencyLineIncludesRawAgainstItself(t *testing.T) {
	result := func(p50, p99 time.Duration) side.Result {
		return side.Result{Messages: 1, Wall: time.Second, CPU: time.Second, Allocs: 1, P50: p50, P99: p99}
	}
	c := compare(row{name: "latency-quorum-1KiB", kit: "kit", raw: "raw"}, map[string][]side.Result{
		"raw":         {result(100, 400), result(100, 800)},
		"kit":         {result(105, 300)},
		againstItself: {result(110, 600), result(110, 600)},
	})
	if line := c.line(); !strings.HasSuffix(line, " ratio_p50=1.050 ratio_p99=0.500 aa_p50=1.100 aa_p99=1.000 aa_p99_min=0.667 aa_p99_max=1.333 rounds=1 median=1.050 min=1.050 max=1.050") {
		t.Errorf("line = %q", line)
	}
}

func TestRecoveryLineHasTheRatioOfGaps(t *testing.T) {
	result := func(gap time.Duration) []side.Result {
		return []side.Result{{Messages: 1, Wall: time.Second, Gap: gap}}
	}
	c := compare(row{name: "recovery-quorum-1KiB", kit: "kit", raw: "raw"}, map[string][]side.Result{
		"raw": result(20 * time.Millisecond), "kit": result(30 * time.Millisecond),
	})
	if got, want := c.line(), "bench recovery-quorum-1KiB ratio_gap=1.500 rounds=1 median=1.500 min=1.500 max=1.500"; got != want {
		t.Errorf("line = %q, want %q", got, want)
	}
}

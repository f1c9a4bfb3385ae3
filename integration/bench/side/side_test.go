package side

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

func TestArgsParseToTheSameTask(t *testing.T) {
	want := Task{
		URL: "amqp://b", Queue: "q", Queues: 3, Stream: true, Messages: 9, Size: 64, Goroutines: 16, Window: 1,
		Prefetch: 0, Multiple: 100, How: "all", Name: "n", For: time.Minute,
	}
	var got Task
	if err := got.flags().Parse(want.Args()); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("parsed %+v, want %+v", got, want)
	}
}

func TestPercentiles(t *testing.T) {
	times := make([]time.Duration, 1000)
	for i := range times {
		times[i] = time.Duration(1000 - i) // longest first
	}
	if r := (Result{}).WithLatencies(times); r.P50 != 501 || r.P99 != 991 {
		t.Errorf("p50 = %d, p99 = %d, want 501 and 991", r.P50, r.P99)
	}
	if r := (Result{}).WithLatencies([]time.Duration{7}); r.P50 != 7 || r.P99 != 7 {
		t.Errorf("single value: p50 = %d, p99 = %d, want 7", r.P50, r.P99)
	}
}

func TestClockCountsTimeAndAllocations(t *testing.T) {
	clock := Start()
	var allocated [100]*int
	for i := range allocated {
		allocated[i] = new(i)
	}
	r := clock.Stop(100)
	if r.Messages != 100 || r.Wall <= 0 || r.Allocs < 90 || *allocated[99] != 99 {
		t.Errorf("result = %+v", r)
	}
}

func TestMessageIDsDiffer(t *testing.T) {
	if a, b := MessageID(0), MessageID(1); a == b || len(a) != 26 {
		t.Errorf("ids %q and %q, want different ids of 26 bytes", a, b)
	}
}

func TestTreeTimeIncludesExitedChildren(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	before := treeTime(os.Getpid())
	busy := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
	if err := busy.Run(); err != nil {
		t.Fatal(err)
	}
	child := busy.ProcessState.UserTime()
	if took := treeTime(os.Getpid()) - before; took < child-2*tick {
		t.Errorf("treeTime grew by %v, the child took %v", took, child)
	}
}

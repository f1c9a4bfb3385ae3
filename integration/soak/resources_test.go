package soak

import (
	"testing"
	"time"
)

// held adds samples in which the last one exceeds the first one by more.
func held(more Sample) func(*builder) {
	return func(t *builder) {
		t.put(Record{Sample: &Sample{When: "before", Goroutines: 1, Sockets: 1}})
		t.put(Record{Sample: &Sample{When: "after", Goroutines: 1 + more.Goroutines, Sockets: 1 + more.Sockets, Connections: more.Connections}})
	}
}

// grown adds samples of a run whose heap grows by 100 MB.
func grown(in time.Duration) func(*builder) {
	return func(t *builder) {
		t.records[0].Settings.Duration = int64(in)
		t.put(Record{Sample: &Sample{When: "before"}})
		for i := range 9 {
			t.put(Record{Sample: &Sample{Heap: uint64(i/3) * 50e6}})
		}
		t.put(Record{Sample: &Sample{When: "after"}})
	}
}

func TestJudgeFindsLeaks(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"a leaked goroutine":      {held(Sample{Goroutines: 1}), leaked + ": 1 goroutines"},
		"a leaked socket":         {held(Sample{Sockets: 1}), leaked + ": 1 sockets"},
		"a leaked connection":     {held(Sample{Connections: 1}), leaked + ": 1 connections"},
		"no leak":                 {held(Sample{}), ""},
		"heap growth in an hour":  {grown(time.Hour), leaked + ": MB of heap"},
		"heap growth in a minute": {grown(time.Minute), ""},
	} {
		t.Run(name, c.test)
	}
}

package soak

import (
	"testing"
	"time"
)

// held has so much more of something after the last client than before the first.
func held(more Sample) func(*builder) {
	return func(t *builder) {
		t.put(Record{Sample: &Sample{When: "before", Goroutines: 1, Sockets: 1}})
		t.put(Record{Sample: &Sample{When: "after", Goroutines: 1 + more.Goroutines, Sockets: 1 + more.Sockets, Connections: more.Connections}})
	}
}

// grown has a hundred megabytes more at the end of a run of some length.
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

func TestJudgeFindsWhatIsLeftBehind(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"a goroutine left behind":       {held(Sample{Goroutines: 1}), leaked + ": 1 goroutines"},
		"a socket left behind":          {held(Sample{Sockets: 1}), leaked + ": 1 sockets"},
		"a connection left behind":      {held(Sample{Connections: 1}), leaked + ": 1 connections"},
		"nothing left behind":           {held(Sample{}), ""},
		"a heap that grows in an hour":  {grown(time.Hour), leaked + ": MB of heap"},
		"a heap that grows in a minute": {grown(time.Minute), ""},
	} {
		t.Run(name, c.test)
	}
}

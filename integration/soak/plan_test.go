package soak

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// count adds the planned faults of a schedule to done.
func count(l *schedule, done map[string]int) {
	for l.planned() {
		kind, _ := l.draw()
		done[kind]++
	}
}

// The schedules together inject the minimum of every kind before any schedule draws random kinds.
func TestSchedulesContainTheMinimums(t *testing.T) {
	for name, c := range map[string]struct {
		duration time.Duration
		owned    bool
		nodes    int
		want     map[string]int
	}{
		"a minute": {time.Minute, true, 1, map[string]int{
			Close: 5, Cut: 5, Torn: 5, Half: 5, Hole: 5, Hold: 5, Unheard: 5, Blocked: 5, Slow: 5, Delete: 5, Alarm: 5, Pause: 5, Kill: 1, Restart: 1,
		}},
		"ten minutes on three nodes": {10 * time.Minute, true, 3, map[string]int{
			Close: 5, Cut: 5, Torn: 5, Half: 5, Hole: 5, Hold: 5, Unheard: 5, Blocked: 5, Slow: 5, Delete: 5, Alarm: 5, Pause: 5, Kill: 5, Restart: 5, Partition: 5,
		}},
		"ten seconds on an external broker": {10 * time.Second, false, 1, map[string]int{
			Cut: 1, Torn: 1, Half: 1, Hole: 1, Hold: 1, Unheard: 1, Blocked: 1, Slow: 1, Delete: 1,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := newPlan(7, c.duration, nil, c.owned, c.nodes)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(p.minimums, c.want) {
				t.Errorf("minimums %v, want %v", p.minimums, c.want)
			}
			done := map[string]int{}
			for i := range 3 {
				count(p.schedule(clientKinds, i, 3, time.Second), done)
			}
			count(p.schedule(nodeKinds, 0, 1, time.Second), done)
			if !reflect.DeepEqual(done, c.want) {
				t.Errorf("planned %v, want %v", done, c.want)
			}
		})
	}
}

// Node faults run in sequence: 60 s on three nodes left time for three of five alarms.
func TestS100MinimumsFitIntoTheDuration(t *testing.T) {
	for _, c := range []struct {
		nodes    int
		duration time.Duration
		want     map[string]int // minimums of node faults
	}{
		{1, 35 * time.Second, map[string]int{Alarm: 2, Pause: 1, Kill: 1, Restart: 1}},
		{1, 60 * time.Second, map[string]int{Alarm: 5, Pause: 5, Kill: 1, Restart: 1}},
		{3, 105 * time.Second, map[string]int{Alarm: 1, Pause: 1, Kill: 1, Restart: 1, Partition: 1}},
		{3, 2 * time.Minute, map[string]int{Alarm: 3, Pause: 2, Kill: 1, Restart: 1, Partition: 1}},
		{3, 3 * time.Minute, map[string]int{Alarm: 5, Pause: 5, Kill: 1, Restart: 1, Partition: 1}},
		{3, 10 * time.Minute, map[string]int{Alarm: 5, Pause: 5, Kill: 5, Restart: 5, Partition: 5}},
	} {
		p, err := newPlan(1, c.duration, nil, true, c.nodes)
		if err != nil {
			t.Errorf("%v on %d nodes: %v", c.duration, c.nodes, err)
		}
		got := map[string]int{}
		for _, k := range nodeKinds {
			if n := p.minimums[k.name]; n > 0 {
				got[k.name] = n
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v on %d nodes: minimums %v, want %v", c.duration, c.nodes, got, c.want)
		}
	}
}

func TestS100ADurationThatIsTooShortNamesTheShortest(t *testing.T) {
	for _, c := range []struct {
		nodes    int
		owned    bool
		kinds    []string
		shortest time.Duration
	}{
		{1, true, nil, 35 * time.Second},
		{3, true, nil, 105 * time.Second},
		{1, false, nil, 10 * time.Second},
		{3, true, []string{Restart}, 50 * time.Second},
		{1, true, []string{Cut}, 5 * time.Second},
	} {
		_, err := newPlan(1, c.shortest/2, c.kinds, c.owned, c.nodes)
		if short := "the shortest duration is " + c.shortest.String(); c.shortest > 5*time.Second && (err == nil || !strings.Contains(err.Error(), short)) {
			t.Errorf("%v on %d nodes: %v, want %s", c.shortest/2, c.nodes, err, short)
		}
		if _, err := newPlan(1, c.shortest, c.kinds, c.owned, c.nodes); err != nil {
			t.Errorf("%v on %d nodes: %v", c.shortest, c.nodes, err)
		}
	}
}

func TestSameSeedMakesTheSamePlan(t *testing.T) {
	draw := func(seed uint64) (faults []any) {
		p, err := newPlan(seed, time.Minute, nil, true, 1)
		if err != nil {
			t.Fatal(err)
		}
		l := p.schedule(clientKinds, 1, 3, time.Second)
		for range 100 {
			kind, pause := l.draw()
			faults = append(faults, kind, pause)
		}
		return faults
	}
	if !reflect.DeepEqual(draw(1), draw(1)) {
		t.Error("the same seed makes a different plan")
	}
	if reflect.DeepEqual(draw(1), draw(2)) {
		t.Error("a different seed makes the same plan")
	}
}

func TestPlanRejectsUnknownKinds(t *testing.T) {
	if p, err := newPlan(1, time.Minute, []string{Cut, Kill}, true, 1); err != nil || len(p.minimums) != 2 {
		t.Errorf("minimums %v, %v, want two kinds", p.minimums, err)
	}
	if _, err := newPlan(1, time.Minute, []string{Cut, "flood"}, true, 1); err == nil {
		t.Error("newPlan accepted an unknown kind")
	}
	if kind, _ := (plan{}).schedule(nodeKinds, 0, 1, time.Second).draw(); kind != "" {
		t.Errorf("a schedule without kinds draws %s", kind)
	}
}

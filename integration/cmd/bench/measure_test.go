package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

// A fakeBroker records the requests to the broker and to the programs.
type fakeBroker struct {
	log   []string
	fails string // the program that fails
}

func (f *fakeBroker) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

func (f *fakeBroker) make(_ context.Context, queueType string, names []string) error {
	f.note("make %s %d", queueType, len(names))
	return nil
}

func (f *fakeBroker) await(_ context.Context, _ []string, messages int) error {
	f.note("await %d", messages)
	return nil
}

func (f *fakeBroker) remove(context.Context, []string) error {
	f.note("remove")
	return nil
}

func (f *fakeBroker) cut(context.Context, string) error { return errors.New("nothing to cut") }
func (f *fakeBroker) url() string                       { return "amqp://broker" }

func (f *fakeBroker) run(_ context.Context, program string, t side.Task) (side.Result, error) {
	f.note("%s %d", program, t.Messages)
	if program == f.fails {
		return side.Result{}, errors.New("boom")
	}
	return side.Result{Messages: t.Messages, Wall: time.Second, CPU: time.Second, Allocs: 1}, nil
}

func consumeGroup() group {
	t := side.Task{Queues: 2, Messages: 10}
	return group{
		queue: "quorum", queues: 2, fill: true, left: noMessages,
		contenders: []contender{{"raw", "raw/consume", t}, {"kit", "kit/consume", t}},
		rows:       []row{{"consume-quorum-1KiB", "kit", "raw", ""}},
	}
}

func measureOn(t *testing.T, f *fakeBroker, g group, rounds int) (map[string][]side.Result, error) {
	t.Helper()
	return (&bench{queues: f, programs: f, progress: io.Discard}).measure(t.Context(), g, rounds)
}

func TestContendersTakeTurnsOnFreshFilledQueues(t *testing.T) {
	f := new(fakeBroker)
	results, err := measureOn(t, f, consumeGroup(), 2)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for range 3 { // two rounds and the warm-up
		for _, program := range []string{"raw/consume", "kit/consume"} {
			want = append(want, "make quorum 2", "raw/publish 10", program+" 10", "await 0", "remove")
		}
	}
	if !slices.Equal(f.log, want) {
		t.Errorf("requests\n%s\nwant\n%s", strings.Join(f.log, "\n"), strings.Join(want, "\n"))
	}
	if len(results["raw"]) != 2 || len(results["kit"]) != 2 {
		t.Errorf("results = %v, want two rounds of each", results)
	}
}

func TestReusedQueuesAreRemovedOnceAtTheEnd(t *testing.T) {
	f, g := new(fakeBroker), consumeGroup()
	g.reuse = true
	if _, err := measureOn(t, f, g, 2); err != nil {
		t.Fatal(err)
	}
	if i := slices.Index(f.log, "remove"); i != len(f.log)-1 {
		t.Errorf("removed as step %d of %d", i+1, len(f.log))
	}
}

func TestFailureNamesItsRowAndRemovesItsQueues(t *testing.T) {
	f := &fakeBroker{fails: "kit/consume"}
	_, err := measureOn(t, f, consumeGroup(), 1)
	if err == nil || !strings.Contains(err.Error(), "consume-quorum-1KiB, kit: boom") {
		t.Errorf("error = %v", err)
	}
	if f.log[len(f.log)-1] != "remove" {
		t.Errorf("the last step was %q", f.log[len(f.log)-1])
	}
}

func TestRowFailsIfItsConnectionCannotBeClosed(t *testing.T) {
	f, g := new(fakeBroker), consumeGroup()
	g.cut, g.fill = true, false
	if _, err := measureOn(t, f, g, 1); err == nil || !strings.Contains(err.Error(), "nothing to cut") {
		t.Errorf("error = %v", err)
	}
}

func TestGroupsAfterAFailedOneAreMeasured(t *testing.T) {
	f := &fakeBroker{fails: "kit/publish"}
	broken := consumeGroup()
	broken.contenders[1].program = "kit/publish"
	b := &bench{queues: f, programs: f, progress: io.Discard}
	rows, err := b.all(t.Context(), []group{broken, consumeGroup()}, 1)
	if len(rows) != 1 || err == nil {
		t.Errorf("%d rows, error %v, want the row of the second group and the error of the first", len(rows), err)
	}
}

func TestGroupHasThreeRoundsOnceTimeIsShort(t *testing.T) {
	f := new(fakeBroker)
	b := &bench{queues: f, programs: f, progress: io.Discard, shorten: time.Now().Add(-time.Second)}
	results, err := b.measure(t.Context(), consumeGroup(), 5)
	if err != nil || len(results["raw"]) != 3 || len(results["kit"]) != 3 {
		t.Errorf("%d and %d rounds, error %v, want 3", len(results["raw"]), len(results["kit"]), err)
	}
}

func TestAProgramPreparesTheDatabaseOfEachRun(t *testing.T) {
	f, g := new(fakeBroker), consumeGroup()
	g.database, g.rounds, g.fill = "sqlite", 1, false
	g.contenders[0].task.Rows = 50
	b := &bench{queues: f, programs: f, progress: io.Discard, dbs: &databases{sqlite: "file"}}
	if _, err := b.measure(t.Context(), g, 5); err != nil {
		t.Fatal(err)
	}
	round := []string{
		"databases/prepare 10", "make quorum 2", "raw/consume 10", "await 0", "remove",
		"databases/prepare 10", "make quorum 2", "kit/consume 10", "await 0", "remove",
	}
	if want := slices.Concat(round, round); !slices.Equal(f.log, want) {
		t.Errorf("requests\n%s\nwant\n%s", strings.Join(f.log, "\n"), strings.Join(want, "\n"))
	}
}

package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// An edit replaces text in a file of the toolkit, relative to its module's root.
type edit struct{ file, from, to string }

// mutants are faults planted in the toolkit. The judge must find each of them, for the expected reason.
var mutants = []struct {
	name  string
	edits []edit
	want  string // kind of the finding
	text  string // text in the finding
}{
	{"ack before the handler", []edit{
		{"consumer/receive.go", "\ts.state.dispatcher.put(j)\n", "\t_ = s.ch.Ack(j.tag, false)\n\ts.state.dispatcher.put(j)\n"},
		{"consumer/settle.go", "\td, how, after := res.d, res.how, res.after\n", "\td, how, after := res.d, res.how, res.after\n\tif d != nil {\n\t\treturn\n\t}\n"},
	}, falseSettled, "before its handler returned"},

	{"nack reported as unknown", []edit{
		{"producer/flight.go", "r.failure(ErrNacked, nil)", "r.failure(ErrUnconfirmed, nil)"},
	}, misreported, "reported as unconfirmed"},

	{"return ignored", []edit{
		{"producer/flight.go", "\tcase ret != nil:\n", "\tcase ret != nil && ret.Code == 0:\n"},
	}, misreported, "without a matching answer on the wire"},

	{"stale ack sent", []edit{
		{"consumer/state.go", "type runState struct {\n", "type runState struct {\n\tnewest *session\n"},
		{"consumer/run.go", "\t\tr.last = s\n", "\t\tr.last, r.newest = s, s\n"},
		{"consumer/workers.go", "\tif res := (result{j, v}); !w.state.dispatcher.done(res) {\n", `	if res := (result{j, v}); !w.state.dispatcher.done(res) {
		if s := w.state.newest; &s.results != j.to && v.how == ack {
			_ = s.ch.Ack(j.tag, false)
		}
`},
	}, falseSettled, "of tag"},

	{"confirm dropped", []edit{
		{"producer/flight.go", "\tcase r.confirm.Acked():\n", "\tcase r.confirm.Acked() && r.confirm.DeliveryTag%50 == 0:\n\t\ts.lost = append(s.lost, r)\n\tcase r.confirm.Acked():\n"},
	}, misreported, "answered at"},

	{"resend under a new id", []edit{
		{"producer/lost.go", "\t\tw.setUnknown(r, why)\n", "\t\tw.setUnknown(r, why)\n\t\tr.msg.Publishing.MessageId = s.p.ids.next()\n"},
	}, unexpected, "message id"},

	{"failed message acknowledged although its move failed", []edit{
		{"retry/move.go", "\tif err == nil {\n\t\tm.warnings.Reset", "\tif err == nil || ctx != nil {\n\t\tm.warnings.Reset"},
	}, falseSettled, "which failed, without a confirmed move"},

	{"failed message acknowledged before the confirm", []edit{
		{"internal/history/copy.go", "\t\terr := to.Republish(ctx, exchange, key, c.Publishing())\n", `
		go func() { _ = to.Republish(context.WithoutCancel(ctx), exchange, key, c.Publishing()) }()
		var err error
`},
	}, falseSettled, "which failed, without a confirmed move"},

	{"attempts not counted", []edit{
		{"internal/history/record.go", "\tr.Attempts = int(min(max(n, 0), 1<<30))\n", "\tr.Attempts, _ = 0, n\n"},
	}, overtried, "attempt 1 at"},
}

// directed are the arguments of a short run that triggers every mutant. The runs share a broker, so only link faults
// are possible.
var directed = []string{"-duration", "10s", "-seed", "1", "-rate", "800", "-faults", strings.Join([]string{Cut, Unheard, Torn, Hold}, ",")}

func TestMutantsAreFound(t *testing.T) {
	broker, err := rabbit.Start(t.Context(), rabbit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := broker.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("none", func(t *testing.T) {
		if r := soak(t, broker, nil); r.Verdict == Failed {
			t.Errorf("run without a mutant failed: %q", r.Reasons)
		}
	})
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			r := soak(t, broker, m.edits)
			found := false
			for _, reason := range r.Reasons {
				found = found || strings.HasPrefix(reason, m.want+":") && strings.Contains(reason, m.text)
			}
			if r.Verdict != Failed || !found {
				t.Errorf("%s: %q, want failed because of %q with %q", r.Verdict, r.Reasons, m.want, m.text)
			}
		})
	}
}

// soak builds the command with the edits and runs it.
func soak(t *testing.T, broker *rabbit.Broker, edits []edit) *Result {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	program := filepath.Join(dir, "soak")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-overlay", overlay(t, dir, edits), "-o", program, "../cmd/soak")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.CommandContext(ctx, program, append(directed, "-dir", dir)...)
	run.Env = append(os.Environ(), "AMQP_URL="+broker.URL())
	run.Stderr = t.Output()
	out, err := run.Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var r Result
	if jsonErr := json.Unmarshal([]byte(lines[len(lines)-1]), &r); jsonErr != nil {
		t.Fatalf("the last line is not a result: %v (%v)\n%s", jsonErr, err, out)
	}
	if (err == nil) != (r.Verdict == Valid) {
		t.Errorf("result is %s, but the program returned %v", r.Verdict, err)
	}
	return &r
}

// overlay writes the edited files and the overlay file of the compiler that lists them.
func overlay(t *testing.T, dir string, edits []edit) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for _, e := range edits {
		original := filepath.Join(root, e.file)
		edited := filepath.Join(dir, strings.ReplaceAll(e.file, "/", "-"))
		from := original
		if replace[original] != "" {
			from = edited // the file has an earlier edit
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte(e.from)); n != 1 {
			t.Fatalf("%s contains the text to replace %d times, want once: update the mutant\n%s", e.file, n, e.from)
		}
		if err := os.WriteFile(edited, bytes.Replace(text, []byte(e.from), []byte(e.to), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[original] = edited
	}
	path := filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// root is the folder of the root module.
const root = "../../.."

// An edit replaces text in a file, relative to root.
type edit struct{ file, from, to string }

// mutants are defects planted in the packages or in the services. The judge must find each of them, for the expected
// reason.
var mutants = []struct {
	name  string
	edits []edit
	fault string // a kind of fault that reveals it
	want  string // beginning of a finding
}{
	{"delete before confirm", []edit{
		{"outbox/batch.go", "\t\t\tb.flight = append(b.flight, sent{r, q, receipt})\n\t\t\treturn\n", "\t\t\t_ = receipt\n\t\t\tb.confirmed = append(b.confirmed, r)\n\t\t\tcontinue\n"},
	}, KillSender, "missing"},

	{"publish before commit", []edit{
		{"integration/databases/soak/writer.go", "w.box.Add(ctx, tx, messages...)", "early(ctx, w.worker, messages)"},
		{"integration/databases/soak/writer.go", "// errOnPurpose rolls", `
var earlyProducer = sync.OnceValue(func() *worker { return new(worker) })

func early(ctx context.Context, w *worker, messages []outbox.Message) error {
	p := earlyProducer()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.publisher == nil {
		var err error
		if p.publisher, _, err = w.connectProducer(); err != nil {
			return err
		}
	}
	for _, m := range messages {
		if err := p.publisher.Publish(ctx, m.Exchange, m.Key, m.Publishing); err != nil {
			return err
		}
	}
	return nil
}

// errOnPurpose rolls`},
		{"integration/databases/soak/worker.go", "\tlogger *slog.Logger\n", "\tlogger *slog.Logger\n\tpublisher *producer.Producer\n"},
	}, KillWriter, "phantom"},

	{"inbox id in a separate transaction", []edit{
		{"inbox/handler.go", "\t\"log/slog\"\n", "\t\"log/slog\"\n\t\"time\"\n"},
		{"inbox/handler.go", `	return x.transact(ctx, func(tx *sql.Tx) error {
		isNew, err := x.store(ctx, tx, messages)
		if err != nil {
			return err
		}
`, `	var isNew map[key]bool
	store := func(tx *sql.Tx) (err error) { isNew, err = x.store(ctx, tx, messages); return err }
	if err := x.transact(ctx, store); err != nil {
		return err
	}
	time.Sleep(5 * time.Millisecond)
	return x.transact(ctx, func(tx *sql.Tx) error {
`},
	}, KillConsumer, "missing"},

	{"shards without a lock", []edit{
		{"outbox/leases.go", "case all[i].holder == l.holder:", "case all[i].holder != \"-\":"},
		{"outbox/leases.go", "share := (shards + relays - 1) / max(relays, 1)", "share := shards + 0*relays"},
	}, Cut, "repeated"},

	{"cursor instead of delete", []edit{
		{"outbox/floors.go", "\tf.confirmed = f.ended\n", "\tf.confirmed = f.ended\n\tfor _, r := range rows {\n\t\tf.ids[r.shard] = max(f.ids[r.shard], r.id)\n\t}\n"},
		{"outbox/floors.go", "if time.Since(f.full) > fullInterval {", "if f.ids == nil {"},
		{"outbox/batch.go", "\tfor len(b.confirmed) > 0 {\n", "\tfor len(b.confirmed) < 0 {\n"},
	}, KillRelay, "out of order"},
}

// directed are the arguments of a short run. The runs share a broker, so that only services and connections fail.
var directed = []string{"-database", SQLite, "-duration", "5s", "-drain", "6s", "-seed", "1"}

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
		t.Parallel()
		if r := soak(t, broker, nil, "-kills", "7"); r.Verdict != Valid {
			t.Errorf("run without a mutant: %s: %q", r.Verdict, r.Reasons)
		}
	})
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			r := soak(t, broker, m.edits, "-faults", m.fault, "-kills", "12")
			found := false
			for _, reason := range r.Reasons {
				found = found || strings.HasPrefix(reason, Failed+": "+m.want)
			}
			if r.Verdict != Failed || !found {
				t.Errorf("%s: %q, want failed because of %q", r.Verdict, r.Reasons, m.want)
			}
		})
	}
}

// soak builds the command with the edits and runs it.
func soak(t *testing.T, broker *rabbit.Broker, edits []edit, args ...string) *Result {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	program := filepath.Join(dir, "soak-outbox")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-overlay", overlay(t, dir, edits), "-o", program, "../cmd/soak-outbox")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.CommandContext(ctx, program, slices.Concat(directed, []string{"-dir", dir}, args)...)
	run.Env = append(os.Environ(), "AMQP_URL="+broker.URL())
	run.Stderr = t.Output()
	out, err := run.Output()
	t.Logf("%s", out)
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
	base, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for _, e := range edits {
		original := filepath.Join(base, e.file)
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

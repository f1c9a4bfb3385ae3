package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/integration/soak"
)

// Users' scripts and CI parse the last line.
func TestLastLineIsTheResultOfARecordedHistory(t *testing.T) {
	for name, c := range map[string]struct{ history, want string }{
		"nothing happened": {`{"t":1,"end":{"lasted":1}}`, soak.Invalid},
		"lost": {`{"t":1,"publish":{"id":"m","deadline":9}}
			{"t":2,"wire":{"event":"Published","channel":1,"tag":1,"message_id":"m"}}
			{"t":3,"wire":{"event":"Confirmed","channel":1,"tag":1,"message_id":"m"}}
			{"t":4,"outcome":{"id":"m","what":"confirmed"}}
			{"t":5,"end":{"lasted":1}}`, soak.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.jsonl")
			if err := os.WriteFile(path, []byte(c.history), 0o600); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			verdict, err := run(t.Context(), []string{"-judge", path}, &stdout, &stderr)
			var line struct {
				Verdict string
				Lost    *int
			}
			if err := json.Unmarshal(stdout.Bytes(), &line); err != nil {
				t.Fatalf("%v: %s", err, &stdout)
			}
			if err != nil || verdict != c.want || line.Verdict != c.want || line.Lost == nil || strings.Count(stdout.String(), "\n") != 1 {
				t.Errorf("run = %q, %v, want %q and one line:\n%s", verdict, err, c.want, &stdout)
			}
			if !strings.Contains(stderr.String(), c.want+": ") {
				t.Errorf("no reason on stderr:\n%s", &stderr)
			}
		})
	}
}

func TestInvalidArgumentsAreRejected(t *testing.T) {
	t.Setenv("AMQP_URL", "")
	for _, args := range [][]string{{"-nodes", "0"}, {"-duration", "1ms"}, {"-duration", "60s", "-nodes", "3"}, {"-faults", "flood"}, {"-judge", "/nowhere"}, {"-nonsense"}} {
		var stdout, stderr bytes.Buffer
		if verdict, err := run(t.Context(), args, &stdout, &stderr); err == nil || verdict != "" || stdout.Len() > 0 {
			t.Errorf("run(%q) = %q, %v and output %q, want an error", args, verdict, err, &stdout)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

// databases are the databases of a run. The programs that use them are in a nested module, which has the drivers.
type databases struct {
	sqlite   string // path of the file
	postgres struct {
		DSN     string
		PID     int
		Version string
	}
	stdin io.Closer
	cmd   *exec.Cmd
}

// startDatabases builds the programs into dir and starts PostgreSQL.
func startDatabases(ctx context.Context, dir string, stderr io.Writer) (*databases, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	for _, part := range []string{"raw", "kit", "serve", "prepare"} {
		into, packages := filepath.Join(dir, part)+string(filepath.Separator), "./bench/"+part+"/..."
		if part == "serve" || part == "prepare" {
			into = filepath.Join(dir, "databases") + string(filepath.Separator)
		}
		if err := os.MkdirAll(into, 0o750); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-o", into, packages)
		cmd.Dir = filepath.Join(root, "integration", "databases")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	d := &databases{sqlite: filepath.Join(dir, "bench.sqlite")}
	d.cmd = exec.Command(filepath.Join(dir, "databases", "serve")) //nolint:noctx // stop ends it
	d.cmd.Stderr = stderr
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(stdout).Decode(&d.postgres); err != nil {
		return nil, fmt.Errorf("PostgreSQL did not start: %w", d.stop())
	}
	return d, nil
}

func (d *databases) stop() error {
	_ = d.stdin.Close()
	return d.cmd.Wait()
}

// use sets the database of a task.
func (d *databases) use(t *side.Task, database string) {
	if database == "sqlite" {
		t.Database = d.sqlite
		return
	}
	t.Database, t.DatabasePID = d.postgres.DSN, d.postgres.PID
}

// moduleRoot returns the folder of the root module.
func moduleRoot(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/amqpkit/amqpkit").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	return strings.TrimSpace(string(root)), nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

const sources = "github.com/amqpkit/amqpkit/integration/bench/"

// built is the directory with the compiled programs of both sides.
type built string

// build compiles the programs into dir.
func build(ctx context.Context, dir string) (built, error) {
	for _, side := range []string{"raw", "kit"} {
		into := filepath.Join(dir, side) + string(filepath.Separator)
		if err := os.MkdirAll(into, 0o750); err != nil {
			return "", err
		}
		out, err := exec.CommandContext(ctx, "go", "build", "-o", into, sources+side+"/...").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	return built(dir), nil
}

func (b built) run(ctx context.Context, program string, t side.Task) (side.Result, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(string(b), program), t.Args()...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return side.Result{}, fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(stderr.String()))
	}
	var r side.Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		return side.Result{}, fmt.Errorf("%s printed %q: %w", program, stdout.String(), err)
	}
	if r.Messages <= 0 || r.Wall <= 0 {
		return side.Result{}, fmt.Errorf("%s printed no measurement: %s", program, strings.TrimSpace(stdout.String()))
	}
	return r, nil
}

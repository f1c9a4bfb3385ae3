package conformance

import (
	"context"
	"crypto/rand"
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// python is the interpreter that Debian's packages install their modules for. Another one on PATH may lack them.
const python = "/usr/bin/python3"

// A Client is a program in Python that exercises a client library and prints the results.
type Client struct {
	Library string // the Python module
	Package string // the Debian package that contains it
	script  string
}

// Clients returns every client.
func Clients() []Client {
	return []Client{
		{"pika", "python3-pika", "with_pika"},
		{"amqp", "python3-amqp", "with_amqp"},
	}
}

//go:embed testdata/clients
var clientFiles embed.FS

// Missing returns nil if the client can run on this machine, otherwise the reason.
func (c Client) Missing(ctx context.Context) error {
	return exec.CommandContext(ctx, python, "-c", "import "+c.Library).Run()
}

// Transcript runs the client on a broker and returns its output.
func (c Client) Transcript(tb testing.TB, url string) string {
	tb.Helper()
	program, err := clientFiles.ReadFile("testdata/clients/" + c.script + ".py")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	suffix := "~" + rand.Text()[:6]
	cmd := exec.CommandContext(ctx, python, "-")
	cmd.Stdin = strings.NewReader(string(program))
	cmd.Env = append(os.Environ(), "AMQP_URL="+url, "SUFFIX="+suffix, "PYTHONIOENCODING=utf-8")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v\n%s\noutput so far:\n%s", c.Library, err, stderr.String(), out)
	}
	return strings.ReplaceAll(string(out), suffix, "")
}

// Recorded returns the output that was recorded from RabbitMQ 4.3, or fails the test if the file is missing.
func (c Client) Recorded(tb testing.TB) string {
	tb.Helper()
	b, err := clientFiles.ReadFile("testdata/clients/" + c.script + ".txt")
	if err != nil {
		tb.Errorf("%s has no recorded transcript: %v", c.Library, err)
	}
	return string(b)
}

// Record writes the transcript into testdata of the checkout at dir.
func (c Client) Record(dir, transcript string) error {
	return os.WriteFile(filepath.Join(dir, "internal", "conformance", "testdata", "clients", c.script+".txt"), []byte(transcript), 0o600)
}

package integration

import (
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The README's table of promises names the tests that keep them: each must be there.
func TestReadmeNamesTestsThatExist(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(source, -1) {
			defined[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(readme, -1)
	if len(named) < 30 {
		t.Errorf("the README names only %d tests", len(named))
	}
	for _, m := range named {
		if !defined[string(m[1])] {
			t.Errorf("the README names %s, which does not exist", m[1])
		}
	}
}

// maxHelloLines is the number of lines that hello world may take in both directions.
const maxHelloLines = 25

// The README's first programs are whole but for their imports.
func TestReadmeProgramsSendAndReceive(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```go\n(func main\\(\\) \\{\n.*?\n\\}\n)```").FindAllSubmatch(readme, -1)
	if len(programs) != 2 {
		t.Fatalf("the README has %d programs, want send and receive", len(programs))
	}
	lines := 0
	dir := t.TempDir()
	for i, name := range []string{"send", "receive"} {
		main := string(programs[i][1])
		if formatted, err := format.Source([]byte(main)); err != nil || string(formatted) != main {
			t.Errorf("%s is not formatted (%v)", name, err)
		}
		for line := range strings.Lines(main) {
			if strings.TrimSpace(line) != "" {
				lines++
			}
		}
		const url = `"amqp://guest:guest@localhost:5672/"`
		if !strings.Contains(main, url) {
			t.Fatalf("%s does not connect to %s", name, url)
		}
		body := strings.ReplaceAll(main, url, `os.Getenv("AMQP_URL")`)
		source := "package main\n" + imports(body) + body
		file := filepath.Join(dir, name+".go")
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), file).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s\n%s", name, err, out, source)
		}
	}
	if lines > maxHelloLines {
		t.Errorf("hello world in both directions takes %d lines, want at most %d", lines, maxHelloLines)
	}

	forget(t, "hello")
	receive := startProgram(t, broker(t).URL(), "receive", filepath.Join(dir, "receive"))
	startProgram(t, broker(t).URL(), "send", filepath.Join(dir, "send")).expectAll()
	receive.expect(received)
	receive.interrupt()
	expectSettled(t, "hello")
	refused := startProgram(t, "amqp://guest:guest@127.0.0.1:1/", "send", filepath.Join(dir, "send"))
	refused.expectEnd()
	refused.exits(1)
}

// imports returns the imports that a program needs.
func imports(body string) string {
	const module = "github.com/amqpkit/amqpkit"
	var s strings.Builder
	for name, path := range map[string]string{
		"context": "context", "errors": "errors", "fmt": "fmt", "log": "log", "os": "os", "signal": "os/signal", "syscall": "syscall",
		"amqp": "github.com/rabbitmq/amqp091-go", "amqpkit": module, "consumer": module + "/consumer", "producer": module + "/producer",
		"topology": module + "/topology",
	} {
		if regexp.MustCompile(`\b` + name + `\.[A-Z]`).MatchString(body) {
			fmt.Fprintf(&s, "import %s %q\n", name, path)
		}
	}
	return s.String()
}

package integration

import (
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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

// The README shows the main functions of examples/quickstart.
func TestReadmeProgramsSendAndReceive(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const url = `"amqp://guest:guest@localhost:5672/"`
	lines, dir := 0, t.TempDir()
	for _, name := range []string{"send", "receive"} {
		source, err := os.ReadFile("../examples/quickstart/" + name + "/main.go")
		if err != nil {
			t.Fatal(err)
		}
		_, main, _ := strings.Cut(string(source), "\n)\n\n") // behind the imports
		if !strings.Contains(string(readme), "```go\n"+main+"```") {
			t.Errorf("the README does not show the program %s:\n%s", name, main)
		}
		if formatted, err := format.Source(source); err != nil || string(formatted) != string(source) {
			t.Errorf("%s is not formatted (%v)", name, err)
		}
		for line := range strings.Lines(main) {
			if strings.TrimSpace(line) != "" {
				lines++
			}
		}
		if !strings.Contains(main, url) {
			t.Fatalf("%s does not connect to %s", name, url)
		}
		file := filepath.Join(dir, name+".go") // for another broker
		if err := os.WriteFile(file, []byte(strings.Replace(string(source), url, strconv.Quote(broker(t).URL()), 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), file).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
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
}

package examples

import (
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// maxHelloLines is the number of lines of the main functions of both programs.
const maxHelloLines = 25

// The README shows the programs of examples/quickstart.
func TestReadmeProgramsSendAndReceive(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const url = `"amqp://guest:guest@localhost:5672/"`
	lines, dir := 0, t.TempDir()
	for _, name := range []string{"send", "receive"} {
		source, err := os.ReadFile("../../examples/quickstart/" + name + "/main.go")
		if err != nil {
			t.Fatal(err)
		}
		_, program, _ := strings.Cut(string(source), "\npackage main\n")
		if !strings.Contains(string(readme), "```go\npackage main\n"+program+"```") {
			t.Errorf("the README does not show the program %s:\n%s", name, program)
		}
		_, main, _ := strings.Cut(program, "\n)\n\n") // after the imports
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
		if err := os.WriteFile(file, []byte(strings.Replace(string(source), url, strconv.Quote(kit.Broker(t).URL()), 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), file).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	if lines > maxHelloLines {
		t.Errorf("hello world in both directions takes %d lines, want at most %d", lines, maxHelloLines)
	}

	kit.Forget(t, "hello")
	receive := kit.StartProgram(t, kit.Broker(t).URL(), "receive", filepath.Join(dir, "receive"))
	kit.StartProgram(t, kit.Broker(t).URL(), "send", filepath.Join(dir, "send")).ExpectAll()
	receive.Expect(kit.Received)
	receive.Interrupt()
	kit.ExpectSettled(t, "hello")
}

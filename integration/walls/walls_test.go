package walls

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/amqpkit/amqpkit"

// rooms are the packages that users import, each with the rooms that it may import besides amqperr and internal packages.
var rooms = map[string][]string{
	module:                 {},
	module + "/amqperr":    {},
	module + "/topology":   {},
	module + "/producer":   {},
	module + "/consumer":   {},
	module + "/retry":      {module + "/topology", module + "/consumer"},
	module + "/parking":    {module + "/consumer"},
	module + "/outbox":     {module + "/producer"},
	module + "/inbox":      {module + "/consumer"},
	module + "/management": {module + "/topology"},

	module + "/topology/topologyfile": {module + "/topology"},
	module + "/topology/diagram":      {module + "/topology"},
}

// libraries are the modules that a room links besides linkable.
var libraries = map[string][]string{module + "/topology/topologyfile": {"go.yaml.in/yaml/v3"}}

// foundations are the packages below the rooms, in the order in which they may import each other.
var foundations = []string{
	module + "/amqperr", module + "/internal/validate", module + "/internal/wire", module + "/internal/dial", module + "/internal/logs",
	module + "/internal/history", module + "/internal/sqldb", module + "/internal/amqpjson", module + "/internal/tree", module + "/internal/definitions",
}

// linkable are the modules that every room may link.
var linkable = []string{module, "github.com/rabbitmq/amqp091-go", "github.com/cenkalti/backoff/v4"}

// goPackage is the part of the output of `go list -json` that the tests check.
type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Module     *struct{ Path string }
}

func TestUsersLinkOnlyTheStandardLibraryAMQPAndBackoff(t *testing.T) {
	for room := range rooms {
		for _, p := range list(t, "-deps", room) {
			if !p.Standard && !slices.Contains(linkable, p.Module.Path) && !slices.Contains(libraries[room], p.Module.Path) {
				t.Errorf("importing %s links %s", room, p.ImportPath)
			}
			if p.Module != nil && p.Module.Path == module && !isRoom(p.ImportPath) {
				t.Errorf("importing %s links %s, which is not a room of users", room, p.ImportPath)
			}
		}
	}
}

func TestRoomsImportOnlyTheRoomsBeneathThem(t *testing.T) {
	for room, allowed := range rooms {
		for _, imported := range list(t, room)[0].Imports {
			ours := imported == module || strings.HasPrefix(imported, module+"/")
			if ours && !slices.Contains(foundations, imported) && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s", room, imported)
			}
		}
	}
}

func TestSharedPackagesImportOnlyEarlierOnes(t *testing.T) {
	for i, p := range foundations {
		for _, imported := range list(t, p)[0].Imports {
			if (imported == module || strings.HasPrefix(imported, module+"/")) && !slices.Contains(foundations[:i], imported) {
				t.Errorf("%s imports %s", p, imported)
			}
		}
	}
}

// terminal are the modules that only the command links.
var terminal = []string{"github.com/urfave/cli/v3", "golang.org/x/term", "golang.org/x/sys"}

func TestOnlyTheCommandImportsTheLibrariesOfTheTerminal(t *testing.T) {
	command := module + "/cmd/amqpkit"
	for _, p := range list(t, module+"/...") {
		for _, imported := range p.Imports {
			if (strings.HasPrefix(imported, terminal[0]) || strings.HasPrefix(imported, terminal[1])) && p.ImportPath != command && !strings.HasPrefix(p.ImportPath, command+"/") {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
	for _, p := range list(t, "-deps", command) {
		if !p.Standard && !slices.Contains(linkable, p.Module.Path) && !slices.Contains(terminal, p.Module.Path) {
			t.Errorf("the command links %s", p.ImportPath)
		}
	}
}

func isRoom(path string) bool {
	_, ok := rooms[path]
	return ok || slices.Contains(foundations, path)
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Standard,Imports,Module"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

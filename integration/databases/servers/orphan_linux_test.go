package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childVar makes the test program a process that starts a server and waits to be killed.
const childVar = "AMQPKIT_TEST_CHILD"

func TestServerDiesWithAKilledProcessAndTheNextStartRemovesItsFolder(t *testing.T) {
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			if os.Getenv(childVar) != "" {
				s := private(t, start)
				_, db := database(t, s)
				execute(t, db, "CREATE TABLE orders (id BIGINT PRIMARY KEY)")
				fmt.Printf("folder=%s\n", s.folder.path)
				select {}
			}
			child := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
			child.Env = append(os.Environ(), childVar+"=1")
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			folder := ""
			for lines := bufio.NewScanner(out); folder == "" && lines.Scan(); {
				_, folder, _ = strings.Cut(lines.Text(), "folder=")
			}
			if folder == "" || len(processesIn(t, folder)) == 0 {
				t.Errorf("no server in folder %q", folder)
			}

			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = child.Wait()
			for deadline := time.Now().Add(30 * time.Second); len(processesIn(t, folder)) > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("still running: %q", processesIn(t, folder))
				}
			}
			removeStaleFolders()
			if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Stat(%s) = %v, want no folder", folder, err)
			}
		})
	}
}

func TestFailedStartQuotesTheLogAndLeavesNoFolder(t *testing.T) {
	temp, err := os.MkdirTemp("", "amqpkit-test-") // not t.TempDir, which only this user can enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", temp)
	_, err = start(t.Context(), &Server{engine: broken{}})
	if err == nil || !strings.Contains(err.Error(), "the server exited") || !strings.Contains(err.Error(), "cannot read the configuration") {
		t.Errorf("start = %v, want an error with the log", err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// broken is a server that exits.
type broken struct{ postgres }

func (broken) prepare(context.Context, *Server) error { return nil }

func (broken) command(*Server) []string {
	return []string{"/bin/sh", "-c", "echo cannot read the configuration; exit 1"}
}

func TestMissingServerIsNamedWithItsPackage(t *testing.T) {
	if path := find("amqpkit-no-such-program", "/usr/sbin"); path != "" {
		t.Fatalf("find = %q", path)
	}
	err := &MissingError{Server: "PostgreSQL", Program: "initdb", Packages: "postgresql"}
	if want := "sudo apt-get install postgresql"; !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

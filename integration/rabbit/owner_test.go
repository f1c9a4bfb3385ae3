package rabbit

import (
	"os"
	"os/exec"
	"testing"
)

func TestProcessExitedOnlyAfterItsExit(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	owner := parseProcess(processOf(cmd.Process.Pid).String())
	if owner.exited() {
		t.Errorf("%s: exited = true while it is running", owner)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !owner.exited() {
		t.Errorf("%s: exited = false after its exit", owner)
	}
}

func TestProcessExitedIfItsIDIsReused(t *testing.T) {
	p := processOf(os.Getpid())
	if p.Start == "" {
		t.Log("start times are not available on this system")
		return
	}
	p.Start = "0"
	if !p.exited() {
		t.Errorf("%s: exited = false, although the process with this id has another start time", p)
	}
}

func TestUnknownProcessIsNotReportedAsExited(t *testing.T) {
	for _, s := range []string{"1073741824/1/another", "", "x/1/y", "0/0/"} {
		if p := parseProcess(s); p.exited() {
			t.Errorf("%q: exited = true, want false for an unknown process", s)
		}
	}
}

func TestAtLeastComparesNumerically(t *testing.T) {
	for version, want := range map[string]bool{
		"4.3.6": true, "4.3": true, "4.10.1": true, "5.0.0": true, "4.3.0-rc.1": true,
		"4.2.9": false, "3.13.7": false, "4": false, "": false, "new": false,
	} {
		if got := atLeast(version, 4, 3); got != want {
			t.Errorf("atLeast(%q, 4, 3) = %v", version, got)
		}
	}
}

package rabbit

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

func TestOwnerIsGoneOnlyAfterItEnded(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	owner := parseProcess(processOf(cmd.Process.Pid).String())
	if owner.gone() {
		t.Errorf("%s is gone while it runs", owner)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !owner.gone() {
		t.Errorf("%s is not gone after its end", owner)
	}
}

func TestOwnerWhoseNumberWasGivenToAnotherIsGone(t *testing.T) {
	me := processOf(os.Getpid())
	if me.Start == "" {
		t.Log("start times cannot be told here, so process ids alone count")
		return
	}
	me.Start = "0"
	if !me.gone() {
		t.Errorf("%s is not gone, though a process with another start time has its id", me)
	}
}

func TestOwnerOnAnotherHostIsLeftAlone(t *testing.T) {
	for _, s := range []string{"1073741824/1/another", "", "x/1/y", "0/0/"} {
		if p := parseProcess(s); p.gone() {
			t.Errorf("%q is gone, want unknown owners left alone", s)
		}
	}
}

func TestFreePortAvoidsWhatIsTakenAndWhatClientsGet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, text, _ := net.SplitHostPort(l.Addr().String())
	taken, _ := strconv.Atoi(text)
	port, err := freePort(taken)
	if err != nil || port < firstPort || port > lastPort {
		t.Errorf("freePort = %d, %v; want one of %d to %d", port, err, firstPort, lastPort)
	}
}

func TestAtLeastComparesNumbers(t *testing.T) {
	for version, want := range map[string]bool{
		"4.3.6": true, "4.3": true, "4.10.1": true, "5.0.0": true, "4.3.0-rc.1": true,
		"4.2.9": false, "3.13.7": false, "4": false, "": false, "new": false,
	} {
		if got := atLeast(version, 4, 3); got != want {
			t.Errorf("atLeast(%q, 4, 3) = %v", version, got)
		}
	}
}

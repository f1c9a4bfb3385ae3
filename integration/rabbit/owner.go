package rabbit

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// A process identifies a process by its id and, because ids are reused, by its start time (on Linux only).
type process struct {
	Host  string
	PID   int
	Start string
}

func processOf(pid int) process {
	host, _ := os.Hostname()
	return process{Host: host, PID: pid, Start: startTime(pid)}
}

// exited reports whether the process is known to have exited. It returns false for processes of other hosts, such as
// containers.
func (p process) exited() bool {
	host, _ := os.Hostname()
	if p.PID <= 0 || p.Host != host {
		return false
	}
	return syscall.Kill(p.PID, 0) == syscall.ESRCH || startTime(p.PID) != p.Start
}

// String returns a form that parseProcess accepts.
func (p process) String() string { return fmt.Sprintf("%d/%s/%s", p.PID, p.Start, p.Host) }

func parseProcess(s string) process {
	parts := strings.SplitN(s, "/", 3)
	if len(parts) != 3 {
		return process{}
	}
	pid, err := strconv.Atoi(parts[0])
	if err != nil {
		return process{}
	}
	return process{PID: pid, Start: parts[1], Host: parts[2]}
}

// startTime returns the start time of a process in clock ticks since boot, or "" if it is unknown or the process is a
// zombie.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name, in parentheses, may contain any character. The start time is the 20th field after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" { // Z is a zombie
		return ""
	}
	return fields[19]
}

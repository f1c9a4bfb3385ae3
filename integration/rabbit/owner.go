package rabbit

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// A process is named by its id and, since ids come back, by when it started (on Linux).
type process struct {
	Host  string
	PID   int
	Start string
}

func processOf(pid int) process {
	host, _ := os.Hostname()
	return process{Host: host, PID: pid, Start: startTime(pid)}
}

// gone reports that the process is known to have ended. One of another host (a container's, say) never is.
func (p process) gone() bool {
	host, _ := os.Hostname()
	if p.PID <= 0 || p.Host != host {
		return false
	}
	return syscall.Kill(p.PID, 0) == syscall.ESRCH || startTime(p.PID) != p.Start
}

// String and parseProcess are each other's inverse.
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

// startTime is when a process started, in the kernel's clock ticks since boot, or "" where that cannot be told.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name, in parentheses, may hold anything. The 20th field after it is the start time.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" { // a zombie has ended
		return ""
	}
	return fields[19]
}

package side

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat, on all current platforms of Linux.
const tick = 10 * time.Millisecond

// treeTime returns the user and system time of a process and its descendants, including exited ones. It returns zero if there
// is no such process, and on systems other than Linux.
func treeTime(root int) time.Duration {
	if root == 0 {
		return 0
	}
	// A process that exits meanwhile would count twice, or not at all.
	before := readTree(root)
	for range 100 {
		after := readTree(root)
		if after.processes == before.processes && after.exited == before.exited {
			return time.Duration(after.ticks) * tick
		}
		before = after
		time.Sleep(tick)
	}
	return time.Duration(before.ticks) * tick
}

// A tree is a process with its descendants.
type tree struct {
	processes     int
	ticks, exited int64 // of all, and of exited ones alone
}

func readTree(root int) (t tree) {
	type process struct {
		parent        int
		ticks, exited int64
	}
	all := map[int]process{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has exited
		}
		// The name, in parentheses, may contain any character.
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(f) < 15 {
			continue
		}
		number := func(field string) int64 {
			n, _ := strconv.ParseInt(field, 10, 64)
			return n
		}
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		p := process{parent: int(number(f[1])), exited: number(f[13]) + number(f[14])}
		p.ticks = number(f[11]) + number(f[12]) + p.exited
		all[id] = p
	}
	for id, p := range all {
		for at := id; at != 0; at = all[at].parent {
			if at == root {
				t.processes++
				t.ticks += p.ticks
				t.exited += p.exited
				break
			}
		}
	}
	return t
}

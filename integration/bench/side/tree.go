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

// treeTime returns the user and system time of a process, its descendants, and those of them that have exited. It returns zero
// if there is no such process, and on systems other than Linux.
func treeTime(root int) time.Duration {
	if root == 0 {
		return 0
	}
	type process struct {
		parent int
		ticks  int64
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
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		p := process{}
		p.parent, _ = strconv.Atoi(f[1])
		for _, field := range f[11:15] { // utime, stime, and the sums of exited children
			n, _ := strconv.ParseInt(field, 10, 64)
			p.ticks += n
		}
		all[id] = p
	}
	var sum int64
	for id, p := range all {
		for at := id; at != 0; at = all[at].parent {
			if at == root {
				sum += p.ticks
				break
			}
		}
	}
	return time.Duration(sum) * tick
}

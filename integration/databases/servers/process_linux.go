package servers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const exitTimeout = 10 * time.Second // for killed processes

// A process is a program that dies with this process.
type process struct {
	pid    int
	exited chan struct{}
	err    error // of the exit; set before exited is closed
}

// spawn starts a program in the folder, as the server's account. Its output is appended to the log.
func (f *folder) spawn(log string, command ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx,gosec // It must outlive the context; running it is the purpose.
	cmd.Dir = f.path
	cmd.Env = environment(f.path)
	cmd.Stdout, cmd.Stderr = out, out
	// Setsid: an interrupt at the terminal must not reach the server before its owner.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: f.as, Pdeathsig: syscall.SIGKILL}
	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends Pdeathsig when the thread exits that started the program.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-started
}

// environment returns the environment of this process without settings of database clients and servers.
func environment(home string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "MYSQL_") && !strings.HasPrefix(v, "MARIADB_") && !strings.HasPrefix(v, "LC_") {
			env = append(env, v)
		}
	}
	return append(env, "LC_ALL=C.UTF-8", "HOME="+home, "TMPDIR="+home)
}

// signal sends a signal to a process that has not exited.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(p.pid, s)
	}
}

// kill kills the process and its children and waits until they have exited. The children of PostgreSQL are leaders of
// sessions, so that a signal to the process group does not reach them. Without one to the children, they would notice the
// exit of their parent and shut down.
func (p *process) kill() error {
	select {
	case <-p.exited: // its id may belong to another process by now
		return nil
	default:
	}
	deadline := time.Now().Add(exitTimeout)
	p.signal(syscall.SIGSTOP) // so that it starts no more
	for stopped := false; !stopped && time.Now().Before(deadline); {
		state := read(p.pid).state
		if stopped = state == "" || strings.ContainsAny(state, "TtZX"); !stopped {
			time.Sleep(time.Millisecond)
		}
	}
	children := childrenOf(p.pid)
	p.signal(syscall.SIGKILL)
	for _, c := range children {
		_ = syscall.Kill(c.pid, syscall.SIGKILL)
	}
	select {
	case <-p.exited:
	case <-time.After(time.Until(deadline)):
		return fmt.Errorf("process %d does not exit", p.pid)
	}
	for _, c := range children {
		for c.runs() {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d does not exit", c.pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// A stat is the part of /proc/PID/stat that identifies a process. Ids are reused, start times are not.
type stat struct {
	pid, parent int
	state       string // "" if there is no such process
	start       string
}

func (s stat) runs() bool {
	now := read(s.pid)
	return now.start == s.start && now.state != "" && now.state != "Z"
}

func read(pid int) stat {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}
	}
	// The name, in parentheses, may contain any character.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return stat{}
	}
	parent, _ := strconv.Atoi(fields[1])
	return stat{pid: pid, parent: parent, state: fields[0], start: fields[19]}
}

func childrenOf(pid int) []stat {
	var children []stat
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		id, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if s := read(id); s.parent == pid && s.state != "" {
			children = append(children, s)
		}
	}
	return children
}

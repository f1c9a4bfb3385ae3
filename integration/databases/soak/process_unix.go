//go:build unix

package soak

import (
	"os"
	"syscall"
)

const terminate = syscall.SIGTERM

// ownGroup returns attributes for a process that an interrupt at the terminal does not reach. If this process dies, the
// kernel continues a suspended one (orphaned process group), and its standard input ends.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func suspend(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

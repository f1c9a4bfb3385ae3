//go:build !linux

package servers

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

func supported() error {
	return errors.New("private servers need Linux; set " + PostgresVar + " or " + MariaDBVar + " to the DSN of a running server")
}

type folder struct{ path string }

func newFolder(string) (*folder, error) {
	path, err := os.MkdirTemp("", "amqpkit-server-*")
	return &folder{path: path}, err
}

func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

func (f *folder) write(string, string) (string, error) { return "", supported() }

func (f *folder) spawn(string, ...string) (*process, error) { return nil, supported() }

func (f *folder) remove() error { return os.RemoveAll(f.path) }

type process struct {
	pid    int
	exited chan struct{}
	err    error
}

func (p *process) signal(syscall.Signal) {}

func (p *process) kill() error { return supported() }

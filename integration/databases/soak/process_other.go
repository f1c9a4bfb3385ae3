//go:build !unix

package soak

import (
	"errors"
	"os"
	"syscall"
)

var terminate = os.Kill

func ownGroup() *syscall.SysProcAttr { return nil }

func suspend(*os.Process) error { return errors.ErrUnsupported }

func resume(*os.Process) error { return errors.ErrUnsupported }

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A newFile is a file that has its name only after all was written to the disk. Until then it is in NAME.part.
type newFile struct {
	*os.File
	name string
	done bool
}

// createNew creates a file. It does not overwrite one.
func createNew(name string) (*newFile, error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, fmt.Errorf("%s exists; remove it, or choose another file", name)
	}
	f, err := os.OpenFile(name+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // messages may hold secrets
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s.part exists, from a command that runs or was killed; it may hold the only copy of messages: move it", name)
	}
	if err != nil {
		return nil, err
	}
	return &newFile{File: f, name: name}, nil
}

// commit writes the file to the disk and gives it its name.
func (f *newFile) commit() error {
	f.done = true
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.File.Name(), f.name)
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.name))
	}
	if err != nil {
		return fmt.Errorf("%w; the messages are in %s", err, f.File.Name())
	}
	return nil
}

// discard removes the file, unless it was committed.
func (f *newFile) discard() {
	if !f.done {
		f.done = true
		_ = errors.Join(f.Close(), os.Remove(f.File.Name()))
	}
}

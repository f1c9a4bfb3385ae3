package rabbit

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// apt-get would leave a mark.
func TestInstalledOnlyInstallsNoServer(t *testing.T) {
	bin := t.TempDir()
	mark := filepath.Join(bin, "installed")
	//nolint:gosec // It has to be run.
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\n: >"+mark+"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	paths := serverPaths
	serverPaths = []string{filepath.Join(bin, "rabbitmq-server")}
	defer func() { serverPaths = paths }()

	m := &machine{progress: io.Discard, installedOnly: true}
	if path, err := m.server(t.Context()); err == nil || path != "" {
		t.Errorf("server = %q, %v; want that it is not installed", path, err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("something was installed")
	}

	if err := os.WriteFile(serverPaths[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := m.server(t.Context()); err != nil || path != serverPaths[0] {
		t.Errorf("server = %q, %v; want the one that is installed", path, err)
	}
}

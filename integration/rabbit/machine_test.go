package rabbit

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A fake apt-get creates a file if it is called.
func TestInstalledOnlyInstallsNoServer(t *testing.T) {
	bin := t.TempDir()
	marker := filepath.Join(bin, "installed")
	//nolint:gosec // It must be executable.
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\n: >"+marker+"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	paths := serverPaths
	serverPaths = []string{filepath.Join(bin, "rabbitmq-server")}
	defer func() { serverPaths = paths }()

	m := &machine{progress: io.Discard, installedOnly: true}
	if path, err := m.server(t.Context()); err == nil || path != "" {
		t.Errorf("server = %q, %v; want an error", path, err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("apt-get was called")
	}

	if err := os.WriteFile(serverPaths[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := m.server(t.Context()); err != nil || path != serverPaths[0] {
		t.Errorf("server = %q, %v; want %q", path, err, serverPaths[0])
	}
}

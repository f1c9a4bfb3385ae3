package rabbit

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

//go:embed debian/*.sh
var scripts embed.FS

// machine is the host that the process runs on.
type machine struct {
	progress      io.Writer
	installedOnly bool // see Options.InstalledOnly
}

func (m *machine) docker(ctx context.Context) error {
	cli, err := dockerClient(ctx)
	if err != nil {
		return err
	}
	return cli.Close()
}

func (m *machine) hasImage(ctx context.Context, image string) bool {
	cli, err := dockerClient(ctx)
	if err != nil {
		return false
	}
	defer cli.Close()
	_, err = cli.ImageInspect(ctx, image)
	return err == nil
}

func (m *machine) pull(ctx context.Context, image string) (err error) {
	fmt.Fprintf(m.progress, "pulling %s ...\n", image)
	defer func() {
		if err != nil {
			fmt.Fprintf(m.progress, "cannot pull %s: %s\n", image, oneLine(err))
		}
	}()
	cli, err := dockerClient(ctx)
	if err != nil {
		return err
	}
	defer cli.Close()
	pull, err := cli.ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	done := map[string]int64{}
	reported := time.Now()
	for msg, err := range pull.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		if msg.Error != nil {
			return msg.Error
		}
		if msg.Progress != nil && msg.Status == "Downloading" {
			done[msg.ID] = msg.Progress.Current
		}
		if time.Since(reported) > 2*time.Second {
			reported = time.Now()
			sum := int64(0)
			for _, n := range done {
				sum += n
			}
			fmt.Fprintf(m.progress, "pulling %s: %d MB\n", image, sum/1e6)
		}
	}
	return nil
}

func (m *machine) builtName(ctx context.Context) (string, error) {
	out, err := m.script(ctx, "image.sh", "tag")
	return strings.TrimSpace(out), err
}

func (m *machine) build(ctx context.Context) (string, error) {
	out, err := m.script(ctx, "image.sh")
	if err != nil {
		return "", fmt.Errorf("build an image: %w", err)
	}
	return strings.TrimSpace(out), nil
}

// serverPaths are tried before $PATH. The Debian package puts a wrapper into $PATH that requires the user rabbitmq and
// the package's directories; this path is the script behind it.
var serverPaths = []string{"/usr/lib/rabbitmq/bin/rabbitmq-server"}

func (m *machine) server(ctx context.Context) (string, error) {
	if path := findServer(); path != "" {
		return path, nil
	}
	if m.installedOnly {
		return "", errors.New("not installed")
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", errors.New("not installed; automatic installation requires root on Debian")
	}
	if _, err := m.script(ctx, "ensure.sh", "rabbitmq-server", "rabbitmq-server"); err != nil {
		return "", err
	}
	if path := findServer(); path != "" {
		return path, nil
	}
	return "", errors.New("rabbitmq-server not found after its installation")
}

func findServer() string {
	for _, path := range serverPaths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath("rabbitmq-server")
	if err != nil {
		return ""
	}
	return path
}

// script runs an embedded script and returns its standard output. Its standard error is copied to m.progress; the last
// lines become part of the error if the script fails.
func (m *machine) script(ctx context.Context, name string, args ...string) (string, error) {
	dir, err := os.MkdirTemp("", "amqpkit-scripts-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, scripts); err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", append([]string{filepath.Join(dir, "debian", name)}, args...)...)
	cmd.Stdout = &stdout
	cmd.Stderr = io.MultiWriter(m.progress, &stderr)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, lastLines(stderr.String(), 5))
	}
	return stdout.String(), nil
}

// lastLines returns the last n lines of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

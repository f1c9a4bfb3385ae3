// Command broker starts a RabbitMQ and runs another command, whose test processes share this broker instead of starting one
// each:
//
//	go run ./integration/cmd/broker go test -p 2 ./integration/...
//
// One process at a time uses the broker. With -p 2, go test builds the next package meanwhile. The exit status is the one of
// the command. Tests that this broker could not run are listed at the end. See rabbit.Start for the choice of the broker.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: broker COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command []string, stdout, stderr io.Writer) (err error) {
	b, err := rabbit.Start(ctx, rabbit.Options{Progress: stderr})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = errors.Join(err, b.Close(ctx))
	}()
	fmt.Fprintf(stderr, "testing on %s\n", b)
	skipped, err := os.CreateTemp("", "amqpkit-skipped-")
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(skipped.Close(), os.Remove(skipped.Name())) }()

	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // running it is the purpose
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	cmd.Env = append(os.Environ(), rabbit.SharedVar+"="+b.Handle(), rabbit.SkippedVar+"="+skipped.Name())
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	printSkipped(stderr, skipped.Name(), b.Version())
	return err
}

// printSkipped prints the skipped tests, which test processes added to the file.
func printSkipped(w io.Writer, path, version string) {
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return
	}
	tests := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Sort(tests)
	fmt.Fprintf(w, "not covered on RabbitMQ %s: %s\n", version, strings.Join(tests, ", "))
}

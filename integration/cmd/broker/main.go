// Command broker starts one or more RabbitMQ brokers and runs another command, whose test processes share them instead of
// starting one each:
//
//	go run ./integration/cmd/broker -n 2 go test -p 3 ./integration/...
//
// One process at a time uses a broker. With -n 2 and -p 3, two packages are tested at the same time, and go test builds the
// next one meanwhile. The exit status is the one of the command. Tests that these brokers could not run are listed at the
// end. See rabbit.Start for the choice of the brokers. There is only one if AMQP_URL names it.
package main

import (
	"context"
	"errors"
	"flag"
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
	n := flag.Int("n", 1, "number of brokers")
	flag.Parse()
	if flag.NArg() == 0 || *n < 1 {
		fmt.Fprintln(os.Stderr, "usage: broker [-n number] COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *n, flag.Args(), os.Stdout, os.Stderr)
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

func run(ctx context.Context, n int, command []string, stdout, stderr io.Writer) (err error) {
	if os.Getenv("AMQP_URL") != "" {
		n = 1
	}
	var brokers []*rabbit.Broker
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, b := range brokers {
			err = errors.Join(err, b.Close(ctx))
		}
	}()
	var handles []string
	for range n {
		b, err := rabbit.Start(ctx, rabbit.Options{Progress: stderr})
		if err != nil {
			return err
		}
		fmt.Fprintf(stderr, "testing on %s\n", b)
		brokers, handles = append(brokers, b), append(handles, b.Handle())
	}
	skipped, err := os.CreateTemp("", "amqpkit-skipped-")
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(skipped.Close(), os.Remove(skipped.Name())) }()

	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // running it is the purpose
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	cmd.Env = append(os.Environ(), rabbit.SharedVar+"="+strings.Join(handles, " "), rabbit.SkippedVar+"="+skipped.Name())
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	printSkipped(stderr, skipped.Name(), brokers[0].Version())
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

// Command serve starts PostgreSQL, prints its DSN, process id and version as one line of JSON, and stops it when its standard
// input is closed. The bench command uses it, because the module of that command has no database drivers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/amqpkit/amqpkit/integration/databases/servers"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	s, err := servers.StartPostgres(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	dsn, err := s.NewDatabase(ctx, "bench")
	if err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode(struct {
		DSN     string
		PID     int
		Version string
	}{dsn, s.PID(), s.Version()})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/topology"
)

const brokerHelp = `broker runs a broker for development until Ctrl-C and prints its URL. To a client
it behaves like RabbitMQ 4.3, but it has no streams, keeps all messages in
memory, and is empty after a restart. Log in as guest with the password guest.

Example:

  amqpkit broker --queue hello
  amqp://guest:guest@127.0.0.1:5672/

It reads commands from the standard input:

  connections   list the open connections
  queues        list the queues
  close NAME    close the connections with a name, to see how a client recovers
  quit          end the broker`

func (a *app) brokerCommand() *cli.Command {
	return &cli.Command{
		Name: "broker", Usage: "run a broker for development", Description: brokerHelp, Action: a.broker,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` to listen on; port 0 takes a free one", Value: "127.0.0.1:5672"},
			&cli.StringSliceFlag{Name: "queue", Aliases: []string{"q"}, Usage: "declare the queue `NAME`; may be repeated"},
		},
	}
}

func (a *app) broker(ctx context.Context, c *cli.Command) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	listen := c.String("listen")
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return usage("--listen %q: %v; write an address such as 127.0.0.1:5672", listen, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		a.warn("other machines can log in as guest at %s", listen)
	}
	// Without the record of published messages the broker keeps only the ones that are in a queue.
	b, err := amqptest.New(amqptest.Config{Addr: listen, PublishedLimit: -1})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; a broker may run there already; --listen 127.0.0.1:0 takes a free port", err)
	}
	if err != nil {
		return err
	}
	defer b.Close()
	defer b.Stop() // closes the connections with a reason
	if err := a.seed(ctx, b, topology.Queues(c.StringSlice("queue")...)); err != nil {
		return err
	}
	if wantsJSON(c) {
		err = printJSON(a.out, map[string]any{"url": b.URL()})
	} else {
		_, err = fmt.Fprintln(a.out, b.URL())
	}
	if err != nil {
		return err
	}
	lines := make(chan string)
	go func() { // a read cannot be interrupted; it ends with the process
		for in := bufio.NewScanner(a.in); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case line := <-lines:
			if quit := a.brokerLine(b, line); quit {
				return nil
			}
		}
	}
}

// seed declares a topology on a broker.
func (a *app) seed(ctx context.Context, b *amqptest.Broker, t topology.Topology) error {
	if len(t.Queues)+len(t.Exchanges)+len(t.Bindings) == 0 {
		return nil
	}
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{b.URL()}, Dialer: b.Dial, Name: "amqpkit broker", Logger: a.logger(), Setup: t.Declare})
	if err != nil {
		return err
	}
	a.close(conn)
	return nil
}

// brokerLine executes a command from the standard input.
func (a *app) brokerLine(b *amqptest.Broker, line string) (quit bool) {
	command, name, _ := strings.Cut(strings.TrimSpace(line), " ")
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	switch command {
	case "":
	case "quit":
		return true
	case "connections":
		fmt.Fprintln(w, "CONNECTION\tUSER\tCHANNELS")
		for _, c := range b.Connections() {
			fmt.Fprintf(w, "%s\t%s\t%d\n", cell(c.Name), cell(c.User), c.Channels)
		}
	case "queues":
		fmt.Fprintln(w, "QUEUE\tTYPE\tREADY\tUNACKED\tCONSUMERS")
		for _, q := range b.Queues() {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\n", cell(q.Name), q.Type, q.Ready, q.Unacked, q.Consumers)
		}
	case "close":
		n := b.CloseConnection(name, 320, "CONNECTION_FORCED - closed by amqpkit broker")
		fmt.Fprintf(w, "closed %s\n", count(n, "connection"))
	default:
		a.warn("unknown command %q; write connections, queues, close NAME or quit", command)
	}
	_ = w.Flush()
	return false
}

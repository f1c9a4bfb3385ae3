package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestBrokerServesClientsUntilItIsInterrupted(t *testing.T) {
	in, typed := io.Pipe()
	defer typed.Close()
	printed, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int)
	var errors screen
	go func() {
		code <- run(ctx, []string{"amqpkit", "broker", "--listen", "127.0.0.1:0", "--queue", "hello"}, in, out, &errors, func(string) string { return "" })
		out.Close()
	}()
	lines := bufio.NewScanner(printed)
	next := func() string {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the output ended: %s", errors.String())
		}
		return lines.Text()
	}
	url := next()
	ac, err := amqp.DialConfig(url, amqp.Config{Properties: amqp.Table{"connection_name": "orders"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ac.Close()
	closed := ac.NotifyClose(make(chan *amqp.Error, 1))
	var sent screen
	if got := run(t.Context(), []string{"amqpkit", "send", "-q", "hello", "Hello"}, nil, &sent, &sent, func(string) string { return url }); got != 0 {
		t.Errorf("send: exit code %d, %s", got, sent.String())
	}
	for command, want := range map[string]string{
		"queues":      "QUEUE  TYPE    READY  UNACKED  CONSUMERS\nhello  quorum  1      0        0",
		"connections": "CONNECTION  USER   CHANNELS\norders      guest  0",
	} {
		fmt.Fprintln(typed, command)
		if got := next() + "\n" + next(); got != want {
			t.Errorf("%s prints\n%s\nwant\n%s", command, got, want)
		}
	}
	fmt.Fprintln(typed, "close orders")
	if got := next(); got != "closed 1 connection" {
		t.Errorf("close prints %s", got)
	}
	if reason := <-closed; reason == nil || reason.Code != 320 {
		t.Errorf("closed with %v", reason)
	}
	fmt.Fprintln(typed, "wrong")
	fmt.Fprintln(typed, "close nobody")
	if got := next(); got != "closed 0 connections" {
		t.Errorf("close prints %s", got)
	}
	if want := "amqpkit broker: unknown command \"wrong\"; write connections, queues, close NAME or quit\n"; errors.String() != want {
		t.Errorf("the standard error holds %q", errors.String())
	}
	cancel()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d: %s", got, errors.String())
	}
}

func TestBrokerEndsAtQuit(t *testing.T) {
	s := newShell(t)
	got := s.run(`printf 'quit\n' | amqpkit broker --listen 127.0.0.1:0 --output json`)
	if !regexp.MustCompile(`^\{"url":"amqp://guest:guest@127\.0\.0\.1:\d+/"\}\n$`).MatchString(got) || s.code != 0 {
		t.Errorf("exit code %d, %s", s.code, got)
	}
}

func TestBrokerNamesTheFixForAnAddress(t *testing.T) {
	s := newShell(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := s.run("amqpkit broker --listen " + l.Addr().String()); s.code != 1 || !strings.HasSuffix(got, "address already in use; a broker may run there already; --listen 127.0.0.1:0 takes a free port\n") {
		t.Errorf("exit code %d, %s", s.code, got)
	}
	s.expect("amqpkit broker --listen 5672", 2,
		"amqpkit broker: --listen \"5672\": address 5672: missing port in address; write an address such as 127.0.0.1:5672\n")
	if got := s.run(`printf 'quit\n' | amqpkit broker --listen :0`); !strings.HasPrefix(got, "amqpkit broker: other machines can log in as guest at :0\n") {
		t.Errorf("exit code %d, %s", s.code, got)
	}
}

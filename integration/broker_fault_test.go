package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

func TestBrokerKilledKeepsItsPortAndWhatItConfirmed(t *testing.T) {
	b := needsControl(t)
	for _, state := range []string{"running", "paused"} {
		t.Run(state, func(t *testing.T) {
			ctx := within(t, time.Minute)
			name, url := "broker-kill-"+state, b.URL()
			declareQuorum(t, b, name)
			publish(t, b, name, "kept")
			conn := dial(t, b, state)
			closed := conn.NotifyClose(make(chan *amqp.Error, 1))
			must(t, b.Flush(ctx))
			if state == "paused" {
				must(t, b.Pause(ctx))
			}

			timed(t, "kill", func() { must(t, b.Kill(ctx)) })

			if e := receive(t, closed, "lost connection"); e.Server {
				t.Errorf("the client was told %v: this was no crash", e)
			}
			must(t, b.Kill(ctx)) // there is nothing to kill, which is no error
			if conn, err := amqp.Dial(url); err == nil {
				_ = conn.Close()
				t.Error("a killed broker took a connection")
			}
			timed(t, "start again", func() { must(t, b.Start(ctx)) })
			if b.URL() != url {
				t.Errorf("URL = %s after the kill, %s before", b.URL(), url)
			}
			d, ok, err := channel(t, dial(t, b, "after")).Get(name, true)
			if err != nil || !ok || string(d.Body) != "kept" {
				t.Errorf("Get = %q, %v, %v; want the message confirmed before the kill", d.Body, ok, err)
			}
		})
	}
}

func TestBrokerPausedAnswersNothingUntilUnpaused(t *testing.T) {
	b := needsControl(t)
	ctx := within(t, time.Minute)
	ch := channel(t, dial(t, b, "paused"))
	timed(t, "pause", func() { must(t, b.Pause(ctx)) })
	t.Cleanup(func() { _ = b.Unpause(context.Background()) })
	answer := make(chan error, 1)
	go func() { answer <- ch.Qos(1, 0, false) }()
	if conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: amqp.DefaultDial(500 * time.Millisecond)}); err == nil {
		_ = conn.Close()
		t.Error("a paused broker took a login")
	}
	select {
	case err := <-answer:
		t.Errorf("a paused broker answered: %v", err)
	default:
	}

	timed(t, "unpause", func() { must(t, b.Unpause(ctx)) })

	timed(t, "answer", func() {
		if err := receive(t, answer, "answer"); err != nil {
			t.Errorf("answer after Unpause = %v, want the one that was waited for", err)
		}
	})
	dial(t, b, "after the pause")
}

func TestBrokerMemoryAlarmBlocksPublishersUntilItIsCleared(t *testing.T) {
	b := needsControl(t)
	ctx := within(t, time.Minute)
	const name, watermark = "broker-alarm", `io_lib:format("~p", [vm_memory_monitor:get_vm_memory_high_watermark()])`
	declareQuorum(t, b, name)
	before, err := b.Eval(ctx, watermark)
	must(t, err)
	conn := dial(t, b, "publisher")
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	ch := channel(t, conn)
	must(t, ch.Confirm(false))
	t.Cleanup(func() { must(t, b.MemoryAlarm(context.Background(), false)) })

	timed(t, "alarm on", func() { must(t, b.MemoryAlarm(ctx, true)) })
	must(t, b.MemoryAlarm(ctx, true)) // once more changes nothing

	publishNow := func() *amqp.DeferredConfirmation {
		confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", name, true, false, amqp.Publishing{})
		must(t, err)
		return confirm
	}
	publishNow() // RabbitMQ takes it, and blocks the connection for it
	if e := receive(t, blocked, "connection.blocked"); !e.Active || e.Reason != "low on memory" {
		t.Errorf("blocked = %+v, want low on memory", e)
	}
	confirm := publishNow()
	declareQuorum(t, b, "broker-alarm-other") // a connection that publishes nothing is not blocked
	select {
	case <-confirm.Done():
		t.Error("a publish was confirmed under the alarm")
	default:
	}

	timed(t, "alarm off", func() { must(t, b.MemoryAlarm(ctx, false)) })

	timed(t, "unblocked", func() {
		if e := receive(t, blocked, "connection.unblocked"); e.Active {
			t.Error("blocked again")
		}
	})
	if acked, err := confirm.WaitContext(ctx); err != nil || !acked {
		t.Errorf("confirmed after the alarm = %v, %v", acked, err)
	}
	must(t, b.MemoryAlarm(ctx, false)) // once more changes nothing
	if after, err := b.Eval(ctx, watermark); err != nil || after != before {
		t.Errorf("watermark = %s, %v; it was %s", after, err, before)
	}
}

func TestBrokerCountsAndClosesTheConnectionsOfOneName(t *testing.T) {
	b := needsControl(t)
	ctx := within(t, time.Minute)
	const name, other = `some "name"` + "\n", "some other name"
	var closed []chan *amqp.Error
	for range 2 {
		conn := dial(t, b, name)
		closed = append(closed, conn.NotifyClose(make(chan *amqp.Error, 1)))
		channel(t, conn)
		channel(t, conn)
	}
	channel(t, dial(t, b, other))
	spared := channel(t, dial(t, b, other))

	got, err := b.Clients(ctx)
	if err != nil || got[name] != (rabbit.Client{Connections: 2, Channels: 4}) || got[other] != (rabbit.Client{Connections: 2, Channels: 2}) {
		t.Errorf("Clients = %+v, %v; want 2 connections each, with 4 and 2 channels", got, err)
	}

	timed(t, "close", func() {
		if n, err := b.CloseConnection(ctx, name, "the reason"); n != 2 || err != nil {
			t.Errorf("CloseConnection = %d, %v; want 2", n, err)
		}
	})
	for _, c := range closed {
		if e := receive(t, c, "connection.close"); e == nil || e.Code != amqp.ConnectionForced || !strings.Contains(e.Reason, "the reason") {
			t.Errorf("closed with %v, want 320 with the reason", e)
		}
	}
	if err := spared.Qos(1, 0, false); err != nil {
		t.Errorf("a connection of another name: %v", err)
	}
	if n, err := b.CloseConnection(ctx, name, "again"); n != 0 || err != nil {
		t.Errorf("CloseConnection = %d, %v; want 0", n, err)
	}
}

func TestBrokerTellsTheLeaderOfAQuorumQueue(t *testing.T) {
	b := needsControl(t)
	ctx := within(t, time.Minute)
	declareQuorum(t, b, "broker-leader")
	declare(t, b, "broker-leader-classic", "classic")
	if node, err := b.Leader(ctx, "broker-leader"); node == "" || node != b.Node() || err != nil {
		t.Errorf("Leader = %q, %v; want the only node, %q", node, err, b.Node())
	}
	if node, err := b.Leader(ctx, "broker-leader-classic"); err == nil || !strings.Contains(err.Error(), "not a quorum queue") {
		t.Errorf("Leader of a classic queue = %q, %v; want an error that says so", node, err)
	}
	if node, err := b.Leader(ctx, "broker-leader-missing"); !errors.Is(err, rabbit.ErrNoQueue) {
		t.Errorf("Leader of a missing queue = %q, %v; want ErrNoQueue", node, err)
	}
}

func TestBrokerTakesItsOptions(t *testing.T) {
	needsControl(t)
	keys := newPKI(t)
	keys.issue(t, "server", &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"rabbit.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	read := func(name string) []byte {
		text, err := os.ReadFile(keys.file(name))
		must(t, err)
		return text
	}
	ctx := within(t, 2*time.Minute)
	plain := rabbit.Options{Progress: t.Output(), Conf: "channel_max = 77\n", Plugins: []string{"rabbitmq_shovel"}}
	full := plain
	full.Conf += `
		listeners.ssl.default = 5671
		ssl_options.certfile = /etc/rabbitmq/server.pem
		ssl_options.keyfile = /etc/rabbitmq/server-key.pem`
	full.Ports = []int{5671}
	full.Files = map[string][]byte{
		"/etc/rabbitmq/server.pem":      read("server"),
		"/etc/rabbitmq/server-key.pem":  read("server-key"),
		"/etc/rabbitmq/advanced.config": []byte("[{rabbit, [{amqpkit_test, advanced}]}].\n"),
	}
	b, fullErr := rabbit.Start(ctx, full)
	if none := (*rabbit.DockerRequiredError)(nil); errors.As(fullErr, &none) {
		var err error
		b, err = rabbit.Start(ctx, plain)
		must(t, err)
	} else {
		must(t, fullErr)
	}
	t.Cleanup(func() { must(t, b.Close(context.Background())) })

	t.Run("conf and plugins", func(t *testing.T) {
		if max := dial(t, b, "conf").Config.ChannelMax; max != 77 {
			t.Errorf("channel_max = %d, want that of Conf", max)
		}
		plugins, err := b.Eval(ctx, `io_lib:format("~p", [rabbit_plugins:active()])`)
		if err != nil || !strings.Contains(plugins, "rabbitmq_shovel") || strings.Contains(plugins, "rabbitmq_management") {
			t.Errorf("plugins = %s, %v; want those of Options and no others", plugins, err)
		}
	})
	t.Run("files and ports", func(t *testing.T) {
		needsDocker(t, fullErr)
		if out, err := b.Eval(ctx, `{ok, V} = application:get_env(rabbit, amqpkit_test), atom_to_list(V)`); out != "advanced" {
			t.Errorf("what advanced.config sets = %q, %v", out, err)
		}
		port, err := b.HostPort(5671)
		must(t, err)
		waitFor(t, func() bool { // RabbitMQ opens this port after the other
			conn, err := amqp.DialTLS(fmt.Sprintf("amqps://guest:guest@127.0.0.1:%d/", port), &tls.Config{
				RootCAs: keys.pool, ServerName: "rabbit.test", MinVersion: tls.VersionTLS12,
			})
			if err != nil {
				t.Log(err)
				return false
			}
			must(t, conn.Close())
			return true
		})
		if port, err := b.HostPort(15672); err == nil {
			t.Errorf("HostPort of a port that is not published = %d, want an error", port)
		}
	})
}

func TestForeignBrokerTakesNoFaults(t *testing.T) {
	t.Setenv("AMQP_URL", broker(t).URL())
	foreign, err := rabbit.Start(t.Context(), rabbit.Options{})
	must(t, err)
	ctx := within(t, time.Minute)
	_, clientsErr := foreign.Clients(ctx)
	_, leaderErr := foreign.Leader(ctx, "q")
	_, closeErr := foreign.CloseConnection(ctx, "x", "y")
	_, portErr := foreign.HostPort(5672)
	for i, err := range []error{
		foreign.Kill(ctx), foreign.Flush(ctx), foreign.Pause(ctx), foreign.Unpause(ctx), foreign.MemoryAlarm(ctx, true), foreign.MemoryAlarm(ctx, false),
		clientsErr, leaderErr, closeErr, portErr,
	} {
		if !errors.Is(err, rabbit.ErrNotOwned) {
			t.Errorf("error %d = %v, want ErrNotOwned", i, err)
		}
	}
	dial(t, foreign, "still there")
}

// needsDocker fails the test of something that takes containers if it was not had. Where there can be no containers, the
// test is reported as not covered.
func needsDocker(t *testing.T, err error) {
	t.Helper()
	var none *rabbit.DockerRequiredError
	if errors.As(err, &none) || errors.Is(err, rabbit.ErrNotOwned) {
		skip(t, "needs Docker")
	}
	must(t, err)
}

// timed logs how long an operation took.
func timed(t *testing.T, what string, op func()) {
	t.Helper()
	start := time.Now()
	op()
	t.Logf("%-16s %6.3f s", what, time.Since(start).Seconds())
}

// must fails the test on an error of what it arranges.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

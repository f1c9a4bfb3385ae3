package rabbit_test

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

	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

func TestBrokerKilledKeepsItsPortAndWhatItConfirmed(t *testing.T) {
	b := kit.NeedsControl(t)
	for _, state := range []string{"running", "paused"} {
		t.Run(state, func(t *testing.T) {
			ctx := kit.Within(t, time.Minute)
			name, url := "broker-kill-"+state, b.URL()
			kit.DeclareQuorum(t, b, name)
			publish(t, b, name, "kept")
			conn := kit.Dial(t, b, state)
			closed := conn.NotifyClose(make(chan *amqp.Error, 1))
			kit.Must(t, b.Flush(ctx))
			if state == "paused" {
				kit.Must(t, b.Pause(ctx))
			}

			kit.Timed(t, "kill", func() { kit.Must(t, b.Kill(ctx)) })

			if e := kit.Receive(t, closed, "lost connection"); e.Server {
				t.Errorf("the client was told %v: this was no crash", e)
			}
			kit.Must(t, b.Kill(ctx)) // there is nothing to kill, which is no error
			if conn, err := amqp.Dial(url); err == nil {
				_ = conn.Close()
				t.Error("a killed broker took a connection")
			}
			kit.Timed(t, "start again", func() { kit.Must(t, b.Start(ctx)) })
			if b.URL() != url {
				t.Errorf("URL = %s after the kill, %s before", b.URL(), url)
			}
			d, ok, err := kit.Channel(t, kit.Dial(t, b, "after")).Get(name, true)
			if err != nil || !ok || string(d.Body) != "kept" {
				t.Errorf("Get = %q, %v, %v; want the message confirmed before the kill", d.Body, ok, err)
			}
		})
	}
}

func TestBrokerPausedAnswersNothingUntilUnpaused(t *testing.T) {
	b := kit.NeedsControl(t)
	ctx := kit.Within(t, time.Minute)
	ch := kit.Channel(t, kit.Dial(t, b, "paused"))
	kit.Timed(t, "pause", func() { kit.Must(t, b.Pause(ctx)) })
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

	kit.Timed(t, "unpause", func() { kit.Must(t, b.Unpause(ctx)) })

	kit.Timed(t, "answer", func() {
		if err := kit.Receive(t, answer, "answer"); err != nil {
			t.Errorf("answer after Unpause = %v, want the one that was waited for", err)
		}
	})
	kit.Dial(t, b, "after the pause")
}

func TestBrokerMemoryAlarmBlocksPublishersUntilItIsCleared(t *testing.T) {
	b := kit.NeedsControl(t)
	ctx := kit.Within(t, time.Minute)
	const name, watermark = "broker-alarm", `io_lib:format("~p", [vm_memory_monitor:get_vm_memory_high_watermark()])`
	kit.DeclareQuorum(t, b, name)
	before, err := b.Eval(ctx, watermark)
	kit.Must(t, err)
	conn := kit.Dial(t, b, "publisher")
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	ch := kit.Channel(t, conn)
	kit.Must(t, ch.Confirm(false))
	t.Cleanup(func() { kit.Must(t, b.MemoryAlarm(context.Background(), false)) })

	kit.Timed(t, "alarm on", func() { kit.Must(t, b.MemoryAlarm(ctx, true)) })
	kit.Must(t, b.MemoryAlarm(ctx, true)) // once more changes nothing

	publishNow := func() *amqp.DeferredConfirmation {
		confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", name, true, false, amqp.Publishing{})
		kit.Must(t, err)
		return confirm
	}
	publishNow() // RabbitMQ takes it, and blocks the connection for it
	if e := kit.Receive(t, blocked, "connection.blocked"); !e.Active || e.Reason != "low on memory" {
		t.Errorf("blocked = %+v, want low on memory", e)
	}
	confirm := publishNow()
	kit.DeclareQuorum(t, b, "broker-alarm-other") // a connection that publishes nothing is not blocked
	select {
	case <-confirm.Done():
		t.Error("a publish was confirmed under the alarm")
	default:
	}

	kit.Timed(t, "alarm off", func() { kit.Must(t, b.MemoryAlarm(ctx, false)) })

	kit.Timed(t, "unblocked", func() {
		if e := kit.Receive(t, blocked, "connection.unblocked"); e.Active {
			t.Error("blocked again")
		}
	})
	if acked, err := confirm.WaitContext(ctx); err != nil || !acked {
		t.Errorf("confirmed after the alarm = %v, %v", acked, err)
	}
	kit.Must(t, b.MemoryAlarm(ctx, false)) // once more changes nothing
	if after, err := b.Eval(ctx, watermark); err != nil || after != before {
		t.Errorf("watermark = %s, %v; it was %s", after, err, before)
	}
}

func TestBrokerCountsAndClosesTheConnectionsOfOneName(t *testing.T) {
	b := kit.NeedsControl(t)
	ctx := kit.Within(t, time.Minute)
	const name, other = `some "name"` + "\n", "some other name"
	var closed []chan *amqp.Error
	for range 2 {
		conn := kit.Dial(t, b, name)
		closed = append(closed, conn.NotifyClose(make(chan *amqp.Error, 1)))
		kit.Channel(t, conn)
		kit.Channel(t, conn)
	}
	kit.Channel(t, kit.Dial(t, b, other))
	spared := kit.Channel(t, kit.Dial(t, b, other))

	got, err := b.Clients(ctx)
	if err != nil || got[name] != (rabbit.Client{Connections: 2, Channels: 4}) || got[other] != (rabbit.Client{Connections: 2, Channels: 2}) {
		t.Errorf("Clients = %+v, %v; want 2 connections each, with 4 and 2 channels", got, err)
	}

	kit.Timed(t, "close", func() {
		if n, err := b.CloseConnection(ctx, name, "the reason"); n != 2 || err != nil {
			t.Errorf("CloseConnection = %d, %v; want 2", n, err)
		}
	})
	for _, c := range closed {
		if e := kit.Receive(t, c, "connection.close"); e == nil || e.Code != amqp.ConnectionForced || !strings.Contains(e.Reason, "the reason") {
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
	b := kit.NeedsControl(t)
	ctx := kit.Within(t, time.Minute)
	kit.DeclareQuorum(t, b, "broker-leader")
	kit.Declare(t, b, "broker-leader-classic", "classic")
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
	kit.NeedsControl(t)
	keys := kit.NewPKI(t)
	keys.Issue(t, "server", &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"rabbit.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	read := func(name string) []byte {
		text, err := os.ReadFile(keys.File(name))
		kit.Must(t, err)
		return text
	}
	ctx := kit.Within(t, 2*time.Minute)
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
		kit.Must(t, err)
	} else {
		kit.Must(t, fullErr)
	}
	t.Cleanup(func() { kit.Must(t, b.Close(context.Background())) })

	t.Run("conf and plugins", func(t *testing.T) {
		if max := kit.Dial(t, b, "conf").Config.ChannelMax; max != 77 {
			t.Errorf("channel_max = %d, want that of Conf", max)
		}
		plugins, err := b.Eval(ctx, `io_lib:format("~p", [rabbit_plugins:active()])`)
		if err != nil || !strings.Contains(plugins, "rabbitmq_shovel") || strings.Contains(plugins, "rabbitmq_management") {
			t.Errorf("plugins = %s, %v; want those of Options and no others", plugins, err)
		}
	})
	t.Run("files and ports", func(t *testing.T) {
		kit.NeedsDocker(t, fullErr)
		if out, err := b.Eval(ctx, `{ok, V} = application:get_env(rabbit, amqpkit_test), atom_to_list(V)`); out != "advanced" {
			t.Errorf("what advanced.config sets = %q, %v", out, err)
		}
		port, err := b.HostPort(5671)
		kit.Must(t, err)
		kit.WaitFor(t, func() bool { // RabbitMQ opens this port after the other
			conn, err := amqp.DialTLS(fmt.Sprintf("amqps://guest:guest@127.0.0.1:%d/", port), &tls.Config{
				RootCAs: keys.Pool, ServerName: "rabbit.test", MinVersion: tls.VersionTLS12,
			})
			if err != nil {
				t.Log(err)
				return false
			}
			kit.Must(t, conn.Close())
			return true
		})
		if port, err := b.HostPort(25672); err == nil {
			t.Errorf("HostPort of a port that is not published = %d, want an error", port)
		}
	})
}

func TestForeignBrokerTakesNoFaults(t *testing.T) {
	t.Setenv("AMQP_URL", kit.Broker(t).URL())
	foreign, err := rabbit.Start(t.Context(), rabbit.Options{})
	kit.Must(t, err)
	ctx := kit.Within(t, time.Minute)
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
	kit.Dial(t, foreign, "still there")
}

package amqptest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/broker"
)

// Config says what kind of [Broker] New makes. The zero value is a RabbitMQ as it is installed.
type Config struct {
	// Addr is where the broker listens, host:port. Empty means a free port of 127.0.0.1.
	Addr string

	// InMemory has the broker not listen at all: only Broker.Dial reaches it. That is what testing/synctest needs,
	// which cannot see what waits for a network.
	InMemory bool

	// Users are who may log in, with their passwords. Nil means guest with the password guest.
	Users map[string]string

	// Login decides about each login instead of Users, for example to test credentials that expire. It returns when the login
	// expires, zero for never; the broker then closes the connection with 320 (CONNECTION_FORCED - credential expired), as
	// RabbitMQ does with OAuth 2.0 tokens. The broker also calls Login for each connection.update-secret, with the user of the
	// connection. Login may be called concurrently. Expiry follows the broker's clock.
	Login func(user, secret string) (expires time.Time, ok bool)

	// VHosts are the virtual hosts. Nil means the one called /.
	VHosts []string

	// StoppedClock has the broker's clock stand still but for Broker.Advance. Otherwise it goes as the real one does,
	// and Advance moves it ahead. TTLs, expiries, delays and timeouts of deliveries go by this clock; heartbeats
	// do not.
	ManualClock bool

	// Heartbeat is the interval that the broker proposes to clients, in whole seconds. Zero means RabbitMQ's 60 s.
	Heartbeat time.Duration

	// ChannelMax is how many channels a connection may have. Zero means RabbitMQ's 2047.
	ChannelMax int

	// FrameMax is the size of the largest frame in bytes, 8192 or more. Zero means RabbitMQ's 131072.
	FrameMax int

	// MaxMessageSize is the size of the largest body in bytes. Zero means RabbitMQ's 16 MiB.
	MaxMessageSize int

	// ConsumerTimeout is how long a delivery from a quorum queue may stay unsettled, unless the queue or the consumer
	// says otherwise (x-consumer-timeout). Zero means RabbitMQ's 30 minutes.
	ConsumerTimeout time.Duration

	// PublishedLimit is how many messages Broker.Published remembers, the latest. Zero means 10,000; -1 means none. Their bodies
	// come to 64 MiB at most.
	PublishedLimit int
}

func (c Config) withDefaults() Config {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Users == nil {
		c.Users = map[string]string{"guest": "guest"}
	}
	if c.VHosts == nil {
		c.VHosts = []string{"/"}
	}
	for _, f := range []struct {
		field *int
		value int
	}{{&c.ChannelMax, 2047}, {&c.FrameMax, 131072}, {&c.MaxMessageSize, 16 << 20}, {&c.PublishedLimit, 10_000}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = time.Minute
	}
	if c.ConsumerTimeout == 0 {
		c.ConsumerTimeout = 30 * time.Minute
	}
	return c
}

func (c Config) validate() error {
	var faults []error
	check := func(ok bool, field, fix string) {
		if !ok {
			faults = append(faults, fmt.Errorf("amqptest: Config.%s: %s", field, fix))
		}
	}
	check(len(c.Users) > 0 || c.Login != nil, "Users", "nobody could log in: leave it nil for guest")
	check(len(c.VHosts) > 0, "VHosts", "there is none: leave it nil for /")
	check(c.Heartbeat >= time.Second && c.Heartbeat <= 65535*time.Second && c.Heartbeat%time.Second == 0, "Heartbeat",
		"it must be whole seconds from 1 to 65535: leave it zero for 60 s")
	check(c.ChannelMax >= 1 && c.ChannelMax <= 65535, "ChannelMax", "it must be from 1 to 65535: leave it zero for 2047")
	check(c.FrameMax >= 8192 && c.FrameMax <= 1<<30, "FrameMax", "it must be from 8192 to 1 GiB: leave it zero for 131072")
	check(c.MaxMessageSize > 0 && c.MaxMessageSize <= 1<<30, "MaxMessageSize", "it must be from 1 to 1 GiB: leave it zero for 16 MiB")
	check(c.ConsumerTimeout >= time.Millisecond, "ConsumerTimeout", "it must be a millisecond or more: leave it zero for 30 minutes")
	check(c.PublishedLimit >= -1, "PublishedLimit", "it must be -1 or more: leave it zero for 10,000")
	return errors.Join(faults...)
}

// A Broker is a RabbitMQ inside the process, for tests: to a client it behaves like RabbitMQ 4.3, with nothing on disk.
// What it does not do it refuses with 540 NOT_IMPLEMENTED and a text that names amqptest. It speaks AMQP 0-9-1 over TCP
// on 127.0.0.1 (URL), with any client, and over connections in memory (Dial).
//
// All methods may be called by several goroutines at once. Those that take the name of a queue look for it in the first
// of Config.VHosts.
type Broker struct {
	broker *broker.Broker
	cfg    Config
}

// ErrClosed reports that a broker does not listen: it was closed, or stopped.
var ErrClosed = broker.ErrClosed

// New starts a broker. Its error names every field of the Config that cannot be, or says why it cannot listen.
func New(c Config) (*Broker, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	b, err := broker.New(broker.Config(c))
	if err != nil {
		return nil, err
	}
	return &Broker{broker: b, cfg: c}, nil
}

// Start is New for a test, which fails if that does. The broker is closed at the end of the test. Of several
// configurations the first counts; without one it is the zero one.
func Start(tb testing.TB, c ...Config) *Broker {
	tb.Helper()
	b, err := New(append(c, Config{})[0])
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.Close() })
	return b
}

// Close cuts all connections and returns when all goroutines of the broker have ended. The error is always nil, and a
// second call does nothing.
func (b *Broker) Close() error {
	b.broker.Close()
	return nil
}

// URL is the broker's address, with a login and the first virtual host, such as amqp://guest:guest@127.0.0.1:49152/.
// It does not change while the broker lives. With Config.InMemory nobody listens there: it is for use with Dial.
func (b *Broker) URL() string {
	user := "guest"
	if _, ok := b.cfg.Users[user]; !ok && len(b.cfg.Users) > 0 {
		user = slices.Sorted(maps.Keys(b.cfg.Users))[0]
	}
	path := ""
	if b.cfg.VHosts[0] != "/" {
		path = url.PathEscape(b.cfg.VHosts[0])
	}
	return (&url.URL{Scheme: "amqp", User: url.UserPassword(user, b.cfg.Users[user]), Host: b.Addr()}).String() + "/" + path
}

// Addr is where the broker listens, host:port.
func (b *Broker) Addr() string {
	if b.cfg.InMemory {
		return "amqptest:5672"
	}
	return b.broker.Addr()
}

// Dial connects in memory, whatever the network and the address are: it fits amqpkit.Config.Dialer, and net.Dialer's
// place elsewhere. While the broker is stopped or closed it returns ErrClosed.
func (b *Broker) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return b.broker.Dial()
}

// Stop ends the broker as an orderly shutdown does: clients are told (320 CONNECTION_FORCED), new ones are refused.
// Durable exchanges and queues stay, with the messages of quorum queues and the persistent ones of classic queues.
// Faults end. It returns when all goroutines have ended.
func (b *Broker) Stop() { b.broker.Stop() }

// Kill is Stop without a word: connections are reset.
func (b *Broker) Kill() { b.broker.Kill() }

// Start listens again on the same address after Stop or Kill. It does nothing if the broker runs, and returns
// ErrClosed after Close.
func (b *Broker) Start() error { return b.broker.Start() }

// Advance moves the broker's clock ahead. What becomes due on the way happens one after another, as it would have:
// messages expire and are dead-lettered, delays end, queues expire, deliveries time out.
func (b *Broker) Advance(d time.Duration) { b.broker.Advance(d) }

// Now is the time on the broker's clock.
func (b *Broker) Now() time.Time { return b.broker.Now() }

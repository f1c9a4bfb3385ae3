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

// Config configures a [Broker]. The zero value behaves like a RabbitMQ with its default configuration.
type Config struct {
	// Addr is the host:port to listen on. Empty means a free port on 127.0.0.1.
	Addr string

	// InMemory disables the listener, so that clients can connect only through Broker.Dial. It is required in a
	// testing/synctest bubble, whose clock does not advance while a goroutine waits for the network.
	InMemory bool

	// Users maps user names to passwords. Nil means guest with the password guest.
	Users map[string]string

	// Login decides about each login instead of Users, for example to test credentials that expire. It returns when the login
	// expires, zero for never; the broker then closes the connection with 320 (CONNECTION_FORCED - credential expired), as
	// RabbitMQ does with OAuth 2.0 tokens. The broker also calls Login for each connection.update-secret, with the user of the
	// connection. Login may be called concurrently. Expiry follows the broker's clock.
	Login func(user, secret string) (expires time.Time, ok bool)

	// VHosts are the virtual hosts. Nil means "/".
	VHosts []string

	// ManualClock stops the broker's clock, so that only Broker.Advance moves it. By default the clock runs in real
	// time and Advance moves it ahead. Message TTLs, queue expiry, delayed retries, consumer timeouts and the expiry of
	// logins use this clock; heartbeats do not.
	ManualClock bool

	// Heartbeat is the interval that the broker proposes to clients, in whole seconds. Zero means 60 s, which RabbitMQ
	// proposes by default. Clients propose their own, such as the 10 s of amqpkit.Config, and the smaller one is used.
	Heartbeat time.Duration

	// ChannelMax is the maximum number of channels per connection. Zero means 2047, as in RabbitMQ.
	ChannelMax int

	// FrameMax is the maximum frame size in bytes, at least 8192. Zero means 131072, as in RabbitMQ.
	FrameMax int

	// MaxMessageSize is the maximum body size in bytes. Zero means 16 MiB, as in RabbitMQ.
	MaxMessageSize int

	// ConsumerTimeout limits how long a delivery from a quorum queue may stay unsettled, unless the queue or the
	// consumer sets x-consumer-timeout. Zero means 30 minutes, as in RabbitMQ.
	ConsumerTimeout time.Duration

	// PublishedLimit is the number of messages that Broker.Published returns. Older messages are dropped, also when the
	// bodies exceed 64 MiB in total. Zero means 10,000; -1 disables the record.
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
	var problems []error
	check := func(ok bool, field, fix string) {
		if !ok {
			problems = append(problems, fmt.Errorf("amqptest: Config.%s %s", field, fix))
		}
	}
	check(len(c.Users) > 0 || c.Login != nil, "Users", "is empty, so no login is possible: set Users or Login, or use nil for guest")
	check(len(c.VHosts) > 0, "VHosts", "is empty: name a virtual host, or use nil for /")
	check(c.Heartbeat >= time.Second && c.Heartbeat <= 65535*time.Second && c.Heartbeat%time.Second == 0, "Heartbeat",
		"must be whole seconds from 1 to 65535: use zero for 60 s")
	check(c.ChannelMax >= 1 && c.ChannelMax <= 65535, "ChannelMax", "must be from 1 to 65535: use zero for 2047")
	check(c.FrameMax >= 8192 && c.FrameMax <= 1<<30, "FrameMax", "must be from 8192 bytes to 1 GiB: use zero for 131072")
	check(c.MaxMessageSize > 0 && c.MaxMessageSize <= 1<<30, "MaxMessageSize", "must be from 1 byte to 1 GiB: use zero for 16 MiB")
	check(c.ConsumerTimeout >= time.Millisecond, "ConsumerTimeout", "must be at least 1 ms: use zero for 30 minutes")
	check(c.PublishedLimit >= -1, "PublishedLimit", "must be at least -1: use zero for 10,000")
	return errors.Join(problems...)
}

// A Broker is an AMQP 0-9-1 broker inside the test process. To a client it behaves like RabbitMQ 4.3, but it stores
// nothing on disk. Clients connect over TCP on 127.0.0.1 (URL) or in memory (Dial). The broker refuses features that it
// does not implement with 540 NOT_IMPLEMENTED and a text that names amqptest.
//
// All methods are safe for concurrent use. Methods that take a queue name use the first of Config.VHosts.
type Broker struct {
	broker *broker.Broker
	cfg    Config
}

// ErrClosed reports that the broker is stopped or closed.
var ErrClosed = broker.ErrClosed

// New starts a broker. Its error reports every invalid field of the Config, or why the broker cannot listen.
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

// Start calls New, fails the test on an error, and closes the broker at the end of the test. The first Config is used;
// the default is the zero Config.
func Start(tb testing.TB, c ...Config) *Broker {
	tb.Helper()
	b, err := New(append(c, Config{})[0])
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.Close() })
	return b
}

// Close resets all connections and waits for the broker's goroutines. It always returns nil. Further calls have no
// effect.
func (b *Broker) Close() error {
	b.broker.Close()
	return nil
}

// URL returns the broker's address with a login and the first virtual host, for example
// amqp://guest:guest@127.0.0.1:49152/. It stays the same until Close, also across Stop and Start. With Config.InMemory
// the URL can only be used together with Dial.
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

// Addr returns the host:port that the broker listens on.
func (b *Broker) Addr() string {
	if b.cfg.InMemory {
		return "amqptest:5672"
	}
	return b.broker.Addr()
}

// Dial opens a connection in memory and ignores the network and the address. It can be used as amqpkit.Config.Dialer
// and in place of net.Dialer.DialContext. While the broker is stopped or closed it returns ErrClosed.
func (b *Broker) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return b.broker.Dial()
}

// Stop shuts the broker down like an orderly RabbitMQ shutdown and waits for its goroutines. Connections are closed
// with 320 (CONNECTION_FORCED) and new ones are refused. Durable exchanges and queues survive, with all messages of
// quorum queues and the persistent messages of classic queues. All faults are cleared.
func (b *Broker) Stop() { b.broker.Stop() }

// Kill is like Stop but resets the connections without connection.close.
func (b *Broker) Kill() { b.broker.Kill() }

// Start listens again on the same address after Stop or Kill. It has no effect on a running broker and returns
// ErrClosed after Close.
func (b *Broker) Start() error { return b.broker.Start() }

// Advance moves the broker's clock ahead. Events that become due on the way happen in order: messages expire and are
// dead-lettered, delayed retries return, queues expire, deliveries time out.
func (b *Broker) Advance(d time.Duration) { b.broker.Advance(d) }

// Now returns the time on the broker's clock.
func (b *Broker) Now() time.Time { return b.broker.Now() }

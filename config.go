package amqpkit

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/dial"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	defaultHeartbeat    = 10 * time.Second
	defaultDialTimeout  = 10 * time.Second
	defaultSetupTimeout = time.Minute
)

// A Config describes the brokers and the work on every new session. Only URLs is required. Its formatting shows no secret, except as
// an unexported field of a struct that is printed: package fmt then ignores its methods.
//
// Setup, Credentials and Dialer must return when their ctx ends. Calls that wait for them cannot return earlier.
type Config struct {
	// URLs are the brokers, usually the nodes of one cluster. Each attempt takes the next one of a shuffled order. The form is
	// the AMQP URI of RabbitMQ's documentation, amqp:// or amqps://user:password@host:port/vhost, with reserved
	// characters percent-encoded. Known query parameters: heartbeat (seconds), connection_timeout (milliseconds),
	// channel_max, cacertfile, certfile, keyfile, server_name_indication, auth_mechanism (plain or external). The files are
	// read for every dial.
	URLs []string

	// Name is the connection name that RabbitMQ's management page and logs show. Empty means the name of the program.
	Name string

	// Setup, if set, runs on every new session before the session is handed out, one run at a time. It is the place for shared,
	// durable topology (a topology.Topology's Declare fits). It must be repeatable. After an error the next node is tried,
	// unless the error is permanent (see [amqperr.IsPermanent]), such as a *amqperr.FieldError for data that every broker
	// refuses. A permanent error closes the Conn.
	//
	// Setup runs again on a living session when a consumer's queue is missing, because it was deleted or expired, or when
	// RabbitMQ cancelled the consumer. Such a run starts 100 ms later, and at most once a second. Its failure is logged and
	// does not affect the session. See SetupOnce, [Conn.QueueMissing] and [Conn.AddSetup].
	Setup func(ctx context.Context, ac *amqp.Connection) error

	// SetupOnce restricts Setup to new sessions. Set it if an operator or a migration deletes queues on purpose, and they must
	// stay deleted until the program reconnects. [Conn.Err] returns a *[MissingError] for a missing queue with it too.
	SetupOnce bool

	// SetupTimeout bounds one run of Setup. The time that the run waits for a run on the other connection does not count. Zero
	// means one minute.
	SetupTimeout time.Duration

	// Credentials, if set, is called before every dial. Its result replaces the user and the password of the URL. An error fails
	// the attempt as an error of Setup does. Both connections call it, possibly concurrently.
	//
	// Credentials that expire are renewed in time: Credentials is called again, with 10 s to return, and the new password is
	// sent to the broker on the living connection (connection.update-secret). Errors are retried until the expiry, when
	// RabbitMQ closes the connection. A new session then logs in with the latest credentials. That also happens if they belong to
	// another user or the broker refuses them. RabbitMQ checks a new password only with backends whose passwords expire,
	// such as OAuth 2. Its internal users stay logged in with the password of the login.
	Credentials func(ctx context.Context) (Credentials, error)

	// External selects the SASL mechanism EXTERNAL: RabbitMQ takes the user's name from the client certificate, which is in
	// TLS or the URL's certfile. It needs amqps:// and RabbitMQ's plugin rabbitmq_auth_mechanism_ssl, and excludes
	// Credentials. False means the mechanism PLAIN. The auth_mechanism of a URL takes precedence.
	External bool

	// TLS is the base of the configuration for amqps:// URLs, for instance with client certificates (GetClientCertificate if
	// they are renewed). Nil means the system's roots and TLS 1.2 or newer. An empty ServerName becomes the host of the URL.
	// It is cloned for every dial.
	TLS *tls.Config

	// Heartbeat is the interval proposed to the broker, a whole number of seconds, at least one. The smaller of both
	// proposals is used. A peer is considered dead after one and a half intervals. Zero means 10 s; heartbeats cannot be
	// switched off. The heartbeat of a URL takes precedence.
	Heartbeat time.Duration

	// DialTimeout bounds one attempt at a URL: name lookup, TCP connect, TLS and AMQP handshake. If the host has several
	// addresses, each gets its share. Zero means 10 s. The connection_timeout of a URL takes precedence.
	DialTimeout time.Duration

	// Dialer opens the TCP connection (or a tunnel, or a test's pipe). It receives the host's name and the port. Nil means
	// net.Dialer, which tries all addresses of the host in random order, IPv6 and IPv4 in turn, each through TLS, the AMQP
	// handshake and Setup, until one succeeds. While a TCP connect takes longer than 250 ms, the next one begins.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

	// Backoff returns the pauses between attempts, and is called for every outage. A session of less than 5 ms does not end an
	// outage. The first pause precedes the first attempt to reconnect. backoff.Stop closes the Conn. Nil means retrying
	// indefinitely, each pause uniformly distributed up to a bound that doubles from 20 ms to 800 ms.
	Backoff func() backoff.BackOff

	// Logger receives the start and the end of each connection (info), losses, failed attempts, failed renewals of
	// credentials and that the broker blocks publishing (warn; a repeated warning is logged once a minute), and a failure
	// that closes the Conn (error). It is the default of the producers and consumers that use the Conn. Nil means
	// slog.Default.
	Logger *slog.Logger
}

// Format writes the URLs without their passwords, and the name, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) {
	urls := make([]string, len(c.URLs))
	for i, u := range c.URLs {
		urls[i] = dial.Redact(u, c.External)
	}
	_, _ = fmt.Fprintf(s, "amqpkit.Config{URLs: [%s], Name: %q}", strings.Join(urls, " "), c.Name)
}

// LogValue returns the text that Format writes.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = filepath.Base(os.Args[0])
	}
	if c.SetupTimeout == 0 {
		c.SetupTimeout = defaultSetupTimeout
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = defaultHeartbeat
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = defaultDialTimeout
	}
	if c.Backoff == nil {
		c.Backoff = defaultBackoff
	}
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// dialer returns the part of the Config for dialling, with the parsed URLs, or every fault of the Config.
func (c Config) dialer() (*dial.Config, []dial.Target, error) {
	d := &dial.Config{
		Name:      c.Name,
		External:  c.External,
		TLS:       c.TLS,
		Heartbeat: c.Heartbeat,
		Timeout:   c.DialTimeout,
		Dialer:    c.Dialer,
	}
	if c.Credentials != nil {
		d.Login = func(ctx context.Context) (dial.Login, error) {
			answer, err := c.Credentials(ctx)
			return dial.Login(answer), err
		}
	}
	targets, err := d.Targets(c.URLs)
	if c.SetupTimeout < 0 {
		err = errors.Join(err, fault("SetupTimeout", "is negative", "leave it zero for one minute"))
	}
	return d, targets, err
}

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "amqpkit", Field: field, Problem: problem, Fix: fix}
}

func defaultBackoff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(wire.FirstPause/2),
		backoff.WithRandomizationFactor(1), // uniform between zero and twice the interval
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(wire.MaxPause/2),
		backoff.WithMaxElapsedTime(0),
	)
}

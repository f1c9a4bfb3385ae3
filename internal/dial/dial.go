package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// The values that amqp091-go's DialConfig would fill in. This package uses amqp.Open instead, so that ctx bounds every phase,
// the socket can be closed at any time, and no URL with a password passes through code that may print it.
const (
	frameSize = 131072 // RabbitMQ's default frame_max
	locale    = "en_US"
)

// A Session is one connection to the broker, from its handshake to its loss.
type Session struct {
	*amqp.Connection
	URL     string // without the password
	Gate    *wire.Gate
	Blocked <-chan amqp.Blocking // closed with the connection
	Login   Login                // the latest that the broker has
}

// A SetupFunc prepares a new session before it is handed out.
type SetupFunc = func(ctx context.Context, ac *amqp.Connection) error

// ConnectAny tries every target once, in random order. It leaves each of them its share of the time until ctx ends. Its error is the
// first one from a broker that answered, or else the first one.
func (c *Config) ConnectAny(ctx context.Context, targets []Target, setup SetupFunc) (*Session, *Error) {
	var first *Error
	for n, i := range rand.Perm(len(targets)) {
		t := targets[i]
		if deadline, ok := ctx.Deadline(); ok && n < len(targets)-1 {
			t.timeout = min(t.timeout, time.Until(deadline)/time.Duration(len(targets)-n))
		}
		s, err := c.Connect(ctx, t, setup)
		if err == nil {
			return s, nil
		}
		first = prefer(first, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// Connect makes one attempt at a target: TCP, TLS, AMQP handshake and setup, over all addresses of its host until one succeeds. Its error
// is the first one from an address that answered, or else the first one.
//
// Every failure at one address may be absent at the next, which may be another node: a node that is shutting down closes the connection just
// as one that refuses the login does. Config.Login is called once.
func (c *Config) Connect(ctx context.Context, t Target, setup SetupFunc) (*Session, *Error) {
	var dialCtx context.Context
	var cancel context.CancelFunc
	defer func() { cancel() }()
	begin := func() { dialCtx, cancel = context.WithTimeoutCause(ctx, t.timeout, noAnswer(t.timeout)) } //nolint:fatcontext // replaces the previous one
	begin()
	if c.Login != nil {
		var err error
		if t.login, err = c.Login(dialCtx); err != nil {
			return nil, t.error(NoLogin, err)
		}
	}
	sockets, err := c.race(dialCtx, t)
	if err != nil {
		return nil, t.error(Unreachable, orCause(dialCtx, err))
	}
	defer sockets.close()
	var first *Error
	for {
		if first != nil && dialCtx.Err() != nil {
			return nil, first
		}
		nc, err := sockets.next()
		if errors.Is(err, errNoAddress) {
			return nil, first
		}
		var s *Session
		var failed *Error
		if err != nil {
			failed = t.error(Unreachable, orCause(dialCtx, err))
		} else if s, failed = c.open(ctx, dialCtx, t, nc, sockets.left()+1, setup); failed == nil {
			return s, nil
		}
		if amqperr.IsPermanent(failed) {
			return nil, failed
		}
		first = prefer(first, failed)
		if failed.Kind == Setup { // which has its own timeout
			cancel()
			begin()
			sockets.again(dialCtx)
		}
	}
}

func (t *Target) error(kind Kind, err error) *Error {
	return &Error{URL: t.display, Kind: kind, Err: err}
}

func noAnswer(d time.Duration) error {
	return fmt.Errorf("no answer within %v", d.Round(time.Millisecond))
}

// open makes a session over a socket, and runs setup on it. The handshake may use one share of the remaining time of dialCtx.
func (c *Config) open(ctx, dialCtx context.Context, t Target, nc net.Conn, shares int, setup SetupFunc) (*Session, *Error) {
	if deadline, ok := dialCtx.Deadline(); ok && shares > 1 {
		share := time.Until(deadline) / time.Duration(shares)
		var cancel context.CancelFunc
		dialCtx, cancel = context.WithTimeoutCause(dialCtx, share, noAnswer(share))
		defer cancel()
	}
	link := wire.NewLink(nc)
	up := false
	defer func() {
		if !up { // amqp091-go leaves the socket open when the handshake fails
			link.Kill()
		}
	}()
	ac, failed := c.handshake(dialCtx, t, link)
	if failed != nil {
		return nil, failed
	}
	s := &Session{
		Connection: ac,
		URL:        t.display,
		Gate:       &link.Gate,
		// Registered before the first publish. It is buffered, because amqp091-go's reader waits until the listener receives.
		Blocked: ac.NotifyBlocked(make(chan amqp.Blocking, 16)),
		Login:   t.login,
	}
	if err := setup(ctx, ac); err != nil {
		return nil, t.error(Setup, err)
	}
	if ac.IsClosed() {
		return nil, t.error(Setup, errors.New("the connection was lost meanwhile"))
	}
	up = true
	return s, nil
}

// handshake makes the TLS and AMQP handshakes on link.
func (c *Config) handshake(ctx context.Context, t Target, link *wire.Link) (*amqp.Connection, *Error) {
	// amqp091-go's handshake takes no ctx: closing the socket ends it.
	disarm := context.AfterFunc(ctx, link.Kill)
	defer disarm()
	transport := wire.NewTransport(link)
	if t.secure {
		tlsConfig, err := t.tlsConfig(c.TLS)
		if err == nil {
			tc := tls.Client(link, tlsConfig)
			err = tc.HandshakeContext(ctx)
			transport = wire.NewTransport(tc)
		}
		if err != nil {
			return nil, t.error(TLS, orCause(ctx, err))
		}
	}
	ac, err := amqp.Open(transport, amqp.Config{
		SASL:       []amqp.Authentication{t.sasl()},
		Vhost:      t.vhost,
		ChannelMax: t.channelMax,
		FrameSize:  frameSize,
		Heartbeat:  t.heartbeat,
		Locale:     locale,
		Properties: amqp.Table{ // a new one each time: amqp091-go writes into it
			"product":         "amqpkit",
			"platform":        runtime.Version(),
			"connection_name": c.Name,
		},
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, t.error(Unreachable, context.Cause(ctx))
		}
		return nil, t.error(explain(err, transport))
	}
	if !disarm() { // too late: the socket is being closed
		return nil, t.error(Unreachable, context.Cause(ctx))
	}
	transport.SetFrameMax(ac.Config.FrameSize)
	link.Bound(ac.Config.Heartbeat * 3 / 2)
	return ac, nil
}

func (t *Target) sasl() amqp.Authentication {
	if t.external {
		return &amqp.ExternalAuth{}
	}
	return &amqp.PlainAuth{Username: t.login.Username, Password: t.login.Password}
}

// orCause returns the cause of ctx's end instead of the "operation was canceled" that results from it.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// explain returns why amqp.Open failed.
func explain(err error, transport *wire.Transport) (Kind, error) {
	cause := transport.Err()
	if protocol := transport.Foreign(); protocol != "" {
		return Handshake, fmt.Errorf("the peer answered in %s instead of AMQP 0-9-1: %w", protocol, err)
	}
	if isAlert(cause) {
		return TLS, cause
	}
	if wire.IsClosed(err) && cause != nil {
		err = cause
	}
	if e, ok := errors.AsType[*amqp.Error](err); ok && !e.Server && e.Reason == io.EOF.Error() {
		err = fmt.Errorf("the peer closed the connection without an answer: %w", err)
	}
	return handshakeKind(err), err
}

// isAlert reports whether err is the peer's refusal of the TLS handshake. In TLS 1.3 the client is done before the server has
// checked its certificate.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// handshakeKind returns the Kind of amqp091-go's handshake errors. Only an error with Server set was sent by the broker.
// amqp091-go reports a socket that closed after start-ok as ErrCredentials and one that closed after connection.open as ErrVhost,
// whatever the reason.
func handshakeKind(err error) Kind {
	var e *amqp.Error
	switch {
	case errors.Is(err, amqp.ErrCredentials):
		return Refused
	case !errors.As(err, &e) || !e.Server:
		return Handshake
	case e.Code == amqp.AccessRefused:
		return Refused
	case e.Code == amqp.NotAllowed && strings.Contains(e.Reason, "limit"):
		return Limit
	case e.Code == amqp.NotAllowed:
		return Vhost
	}
	return Handshake
}

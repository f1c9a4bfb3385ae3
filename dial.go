package amqpkit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// What amqp091-go's DialConfig would fill in. The dialling is ours (amqp.Open instead of
// amqp.DialConfig), so that every phase is bounded by ctx, the socket stays within reach and
// no URL with a password passes through code that may print it.
const (
	frameSize = 131072 // RabbitMQ's default frame_max
	locale    = "en_US"
)

// A session is one connection to the broker, from its handshake to its loss.
type session struct {
	*amqp.Connection
	gate    *wire.Gate
	blocked <-chan amqp.Blocking // closed with the connection
	login   Credentials
}

// connect makes one attempt at a URL: TCP, TLS, AMQP handshake and Setup, over all addresses of its host
// until one succeeds. Every error is a *DialError: that of the first address where something answered.
//
// Whatever fails at one address may succeed at the next, which may be another node: only the Credentials are
// not asked for again. A login that the broker refuses looks like a node that hangs up.
func (c *Conn) connect(ctx context.Context, t target) (*session, error) {
	var dialCtx context.Context
	var cancel context.CancelFunc
	defer func() { cancel() }()
	begin := func() { dialCtx, cancel = context.WithTimeoutCause(ctx, t.timeout, noAnswer(t.timeout)) } //nolint:fatcontext // in place of the last one
	begin()
	login := t.login
	if c.cfg.Credentials != nil {
		var err error
		if login, err = c.cfg.Credentials(dialCtx); err != nil {
			return nil, &DialError{URL: t.display, Kind: ErrCredentials, Err: err}
		}
	}
	sockets, err := c.dial(dialCtx, t)
	if err != nil {
		return nil, &DialError{URL: t.display, Kind: ErrUnreachable, Err: orCause(dialCtx, err)}
	}
	defer sockets.close()
	var first error
	for {
		if first != nil && dialCtx.Err() != nil {
			return nil, first
		}
		nc, err := sockets.next()
		if errors.Is(err, errNoAddress) {
			return nil, first
		}
		var s *session
		if err != nil {
			err = &DialError{URL: t.display, Kind: ErrUnreachable, Err: orCause(dialCtx, err)}
		} else if s, err = c.open(ctx, dialCtx, t, login, nc, sockets.left()+1); err == nil {
			return s, nil
		}
		if first == nil || errors.Is(first, ErrUnreachable) && !errors.Is(err, ErrUnreachable) {
			first = err
		}
		if amqperr.IsPermanent(err) {
			return nil, err
		}
		if errors.Is(err, ErrSetup) { // which has a time of its own
			cancel()
			begin()
			sockets.again(dialCtx)
		}
	}
}

func noAnswer(d time.Duration) error {
	return fmt.Errorf("no answer within %v", d.Round(time.Millisecond))
}

// open makes a session over a socket. It may use one share of the remaining time of dialCtx.
func (c *Conn) open(ctx, dialCtx context.Context, t target, login Credentials, nc net.Conn, shares int) (*session, error) {
	refused := func(kind, err error) (*session, error) {
		return nil, &DialError{URL: t.display, Kind: kind, Err: err}
	}
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
	// amqp091-go's handshake knows no ctx: closing the socket under it ends it.
	disarm := context.AfterFunc(dialCtx, link.Kill)
	defer disarm()

	transport := wire.NewTransport(link)
	if t.secure {
		tlsConfig, err := t.tlsConfig(c.cfg.TLS)
		if err == nil {
			tc := tls.Client(link, tlsConfig)
			err = tc.HandshakeContext(dialCtx)
			transport = wire.NewTransport(tc)
		}
		if err != nil {
			return refused(ErrTLS, orCause(dialCtx, err))
		}
	}
	ac, err := amqp.Open(transport, amqp.Config{
		SASL:       []amqp.Authentication{t.sasl(login)},
		Vhost:      t.vhost,
		ChannelMax: t.channelMax,
		FrameSize:  frameSize,
		Heartbeat:  t.heartbeat,
		Locale:     locale,
		Properties: amqp.Table{ // a fresh one each time: amqp091-go writes into it
			"product":         "amqpkit",
			"platform":        runtime.Version(),
			"connection_name": c.cfg.Name,
		},
	})
	if err != nil {
		if dialCtx.Err() != nil {
			return refused(ErrUnreachable, context.Cause(dialCtx))
		}
		cause := transport.Err()
		if protocol := transport.Foreign(); protocol != "" {
			return refused(ErrHandshake, fmt.Errorf("the peer answered in %s instead of AMQP 0-9-1: %w", protocol, err))
		}
		if isAlert(cause) {
			return refused(ErrTLS, cause)
		}
		if wire.IsClosed(err) && cause != nil {
			err = cause
		}
		if e, ok := errors.AsType[*amqp.Error](err); ok && !e.Server && e.Reason == io.EOF.Error() {
			err = fmt.Errorf("the peer closed the connection without an answer: %w", err)
		}
		return refused(handshakeKind(err), err)
	}
	if !disarm() { // too late: the socket is being closed
		return refused(ErrUnreachable, context.Cause(dialCtx))
	}
	transport.SetFrameMax(ac.Config.FrameSize)
	link.Bound(ac.Config.Heartbeat * 3 / 2)
	s := &session{
		Connection: ac,
		gate:       &link.Gate,
		// Registered before anyone can publish; buffered, because amqp091-go's reader waits for a
		// listener that takes nothing.
		blocked: ac.NotifyBlocked(make(chan amqp.Blocking, 16)),
		login:   login,
	}
	if !t.dedicated || !c.hasSetUp() { // many consumers may dial at once, and Setup runs one at a time
		if err := c.setUp(ctx, ac); err != nil {
			return refused(ErrSetup, err)
		}
	}
	if ac.IsClosed() {
		return refused(ErrSetup, errors.New("the connection was lost meanwhile"))
	}
	up = true
	return s, nil
}

func (t target) sasl(login Credentials) amqp.Authentication {
	if t.external {
		return &amqp.ExternalAuth{}
	}
	return &amqp.PlainAuth{Username: login.Username, Password: login.Password}
}

// orCause prefers why ctx ended to the "operation was canceled" that it led to.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// isAlert reports whether err is the other side's refusal of the TLS handshake. In TLS 1.3 the
// client is done before the server has looked at its certificate.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// handshakeKind sorts amqp091-go's handshake errors. Only an error with Server set is the
// broker's own word. amqp091-go reports a socket that closed after start-ok as ErrCredentials
// and one that closed after connection.open as ErrVhost, whatever the reason.
func handshakeKind(err error) error {
	var e *amqp.Error
	switch {
	case errors.Is(err, amqp.ErrCredentials):
		return ErrLogin
	case !errors.As(err, &e) || !e.Server:
		return ErrHandshake
	case e.Code == amqp.AccessRefused:
		return ErrLogin
	case e.Code == amqp.NotAllowed && strings.Contains(e.Reason, "limit"):
		return ErrLimit
	case e.Code == amqp.NotAllowed:
		return ErrVhost
	}
	return ErrHandshake
}

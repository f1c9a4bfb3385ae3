package broker

import (
	"crypto/subtle"
	"errors"
	"runtime"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

const (
	// Version is the RabbitMQ version that the broker announces.
	Version = "4.3.6"

	handshakeFrame   = 8192 // the maximum before connection.tune
	handshakeTimeout = 10 * time.Second
	minFrameMax      = 8192
)

// errHangUp closes a connection without a reply code, as RabbitMQ does before the login, but without RabbitMQ's delay
// of three seconds.
var errHangUp = errors.New("abandoned")

// handshake opens the connection. A *failure is reported to the client.
func (c *conn) handshake() error {
	_ = c.nc.SetReadDeadline(time.Now().Add(handshakeTimeout))
	header, err := c.reader.Header()
	if err != nil {
		return err
	}
	if header != codec.ProtocolHeader && header != protocolHeader09 {
		c.b.update(func() {
			c.out = append(c.out, otherProtocol(header)...)
			c.pending()
			c.cutSoon()
		})
		c.drain()
		return errHangUp
	}
	c.reply(&codec.ConnectionStart{
		Minor: 9, Properties: serverProperties(),
		Mechanisms: []byte("PLAIN AMQPLAIN ANONYMOUS"), Locales: []byte("en_US"),
	})
	for _, step := range []func() error{c.login, c.tune, c.open} {
		if err := step(); err != nil {
			return err
		}
	}
	_ = c.nc.SetReadDeadline(time.Time{})
	return nil
}

func (c *conn) reply(m codec.Method) { c.b.update(func() { c.send(0, m) }) }

// protocolHeader09 is the header of AMQP 0-9, which RabbitMQ accepts as 0-9-1.
const protocolHeader09 = "AMQP\x01\x01\x00\x09"

// otherProtocol returns the header that RabbitMQ sends for an unsupported protocol: 0-9-1 for a later 0-9, otherwise
// AMQP 1.0. This broker does not support AMQP 1.0, so it answers AMQP 1.0 with 0-9-1.
func otherProtocol(header string) string {
	const amqp10 = "AMQP\x03\x01\x00\x00"
	if header == amqp10 || strings.HasPrefix(header, "AMQP\x00\x00") && header[6] >= 9 {
		return codec.ProtocolHeader
	}
	return amqp10
}

// expect reads the method that must come next on channel 0 in this state of the connection.
func expect[M codec.Method](c *conn, state string) (M, error) {
	var none M
	for {
		f, err := c.reader.Next()
		var broken *codec.FrameError
		switch {
		case errors.As(err, &broken) && state != stateOpening:
			return none, errHangUp
		case err != nil:
			return none, err
		case f.Channel != 0 && state == stateOpening:
			return none, unexpectedFrameOf(f)
		case f.Channel != 0:
			return none, errHangUp
		}
		m, err := method0(f, state)
		want, ok := m.(M)
		switch {
		case err != nil:
			return none, err
		case ok:
			return want, nil
		case m == nil:
		case state == stateOpening:
			return none, unexpectedMethod0(m, state)
		default:
			return none, errHangUp
		}
	}
}

func (c *conn) login() error {
	m, err := expect[*codec.ConnectionStartOk](c, stateStarting)
	if err != nil {
		return err
	}
	if v, ok := m.Properties.Get("capabilities"); ok {
		c.capabilities, _ = v.(codec.Table)
	}
	if v, ok := m.Properties.Get("connection_name"); ok {
		c.name, _ = v.(string)
	}
	var user, password string
	switch m.Mechanism {
	case "PLAIN":
		parts := strings.Split(string(m.Response), "\x00")
		if len(parts) != 3 || parts[0] != "" { // RabbitMQ accepts no authorization identity
			return errHangUp
		}
		user, password = parts[1], parts[2]
	case "AMQPLAIN":
		t, err := codec.ParseTable(m.Response)
		if err != nil {
			return errHangUp
		}
		var hasUser, hasPassword bool
		user, hasUser = loginText(t, "LOGIN")
		password, hasPassword = loginText(t, "PASSWORD")
		if !hasUser || !hasPassword {
			return errHangUp
		}
	case "ANONYMOUS": // RabbitMQ's default anonymous login
		user, password = "guest", "guest"
	default:
		return errHangUp
	}
	expires, ok := c.b.admits(user, password)
	if !ok {
		if !c.hasCapability("authentication_failure_close") {
			return errHangUp
		}
		return &failure{0, raise(accessRefused,
			"Login was refused using authentication mechanism %s. For details see the broker logfile.", m.Mechanism)}
	}
	c.user = user
	c.b.update(func() { c.expireAt(expires) })
	return nil
}

// loginText returns a field of the table as text.
func loginText(t codec.Table, key string) (string, bool) {
	switch v, _ := t.Get(key); v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}

// admits checks a login and returns when it expires, zero for never.
func (b *Broker) admits(user, secret string) (expires time.Time, ok bool) {
	b.mu.Lock()
	refuse := b.faults.refuseLogins
	b.mu.Unlock()
	if refuse {
		return time.Time{}, false
	}
	if b.cfg.Login != nil {
		return b.cfg.Login(user, secret)
	}
	want, ok := b.cfg.Users[user]
	return time.Time{}, ok && subtle.ConstantTimeCompare([]byte(want), []byte(secret)) == 1
}

// expireAt schedules the end of the connection for the expiry of its login.
func (c *conn) expireAt(t time.Time) {
	c.expiry.run = func() {
		if !c.closing && !c.finish {
			c.fail(0, 0, raise(connectionForced, "credential expired"))
		}
	}
	if t.IsZero() {
		c.b.clock.unset(&c.expiry)
	} else {
		c.b.clock.set(&c.expiry, t)
	}
}

func (c *conn) tune() error {
	cfg := c.b.cfg
	c.reply(&codec.ConnectionTune{
		ChannelMax: uint16(cfg.ChannelMax), FrameMax: uint32(cfg.FrameMax), Heartbeat: uint16(cfg.Heartbeat / time.Second),
	})
	m, err := expect[*codec.ConnectionTuneOk](c, stateTuning)
	if err != nil {
		return err
	}
	frameMax, channelMax := int(m.FrameMax), int(m.ChannelMax)
	if frameMax < minFrameMax || frameMax > cfg.FrameMax || channelMax < 1 || channelMax > cfg.ChannelMax { // zero means no limit
		return errHangUp
	}
	c.b.update(func() {
		c.frameMax, c.channelMax = frameMax, channelMax
		c.reader.Max = c.frameMax - codec.EmptyFrame
		c.heartbeat = time.Duration(m.Heartbeat) * time.Second
		c.pending()
	})
	return nil
}

func (c *conn) open() error {
	m, err := expect[*codec.ConnectionOpen](c, stateOpening)
	if err != nil {
		return err
	}
	v := c.b.vhosts[m.VHost] // immutable after New
	if v == nil {
		return &failure{m.ID(), raise(notAllowed, "vhost %s not found", m.VHost)}
	}
	c.b.update(func() {
		c.vhost = v
		c.send(0, new(codec.ConnectionOpenOk))
	})
	return nil
}

// A renewal is the result of Config.Login for a new secret.
type renewal struct {
	expires time.Time
	ok      bool
}

// renew calls Config.Login for the secret of connection.update-secret, before the frame is handled.
func (c *conn) renew(f codec.Frame) {
	c.renewal = renewal{ok: true} // RabbitMQ's internal database accepts any secret
	if c.b.cfg.Login == nil || f.Channel != 0 || f.Type != codec.FrameMethod {
		return
	}
	if _, m, err := codec.Parse(f.Payload); err == nil {
		if m, ok := m.(*codec.ConnectionUpdateSecret); ok {
			c.renewal.expires, c.renewal.ok = c.b.cfg.Login(c.user, string(m.Secret))
		}
	}
}

func (c *conn) updateSecret(id codec.ID) {
	if !c.renewal.ok {
		c.fail(0, id, raise(notAllowed, "New secret was refused by one of the backends"))
		return
	}
	c.expireAt(c.renewal.expires)
	c.send(0, new(codec.ConnectionUpdateSecretOk))
}

func serverProperties() codec.Table {
	capabilities := codec.Table{}
	for _, name := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
		"consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
	} {
		capabilities = append(capabilities, codec.Field{Key: name, Value: true})
	}
	return codec.Table{
		{Key: "capabilities", Value: capabilities},
		{Key: "cluster_name", Value: "rabbit@amqptest"},
		{Key: "copyright", Value: "amqptest is not RabbitMQ"},
		{Key: "information", Value: "A broker for tests, in the test's process"},
		{Key: "platform", Value: runtime.Version()},
		{Key: "product", Value: "RabbitMQ"},
		{Key: "version", Value: Version},
	}
}

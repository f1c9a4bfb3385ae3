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
	// Version is the RabbitMQ that the broker says it is.
	Version = "4.3.6"

	handshakeFrame   = 8192 // the largest before the tuning
	handshakeTimeout = 10 * time.Second
	minFrameMax      = 8192
)

// errAbandoned ends a connection without a word, as RabbitMQ does before it trusts a client, though three seconds later.
var errAbandoned = errors.New("abandoned")

// handshake leads to an open connection, or to an error: an exception if the client is told.
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
		return errAbandoned
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

// protocolHeader09 is that of AMQP 0-9, which RabbitMQ takes for 0-9-1.
const protocolHeader09 = "AMQP\x01\x01\x00\x09"

// otherProtocol answers what is not the header of AMQP 0-9-1, with the version that RabbitMQ would have: a later 0-9 is told
// 0-9-1, everything else AMQP 1.0. A client that speaks AMQP 1.0 is told 0-9-1, since this broker speaks nothing else.
func otherProtocol(header string) string {
	const amqp10 = "AMQP\x03\x01\x00\x00"
	if header == amqp10 || strings.HasPrefix(header, "AMQP\x00\x00") && header[6] >= 9 {
		return codec.ProtocolHeader
	}
	return amqp10
}

// expect reads the method of channel 0 that has to come in a state of the connection.
func expect[M codec.Method](c *conn, state string) (M, error) {
	var none M
	for {
		f, err := c.reader.Next()
		var broken *codec.FrameError
		switch {
		case errors.As(err, &broken) && state != stateOpening:
			return none, errAbandoned
		case err != nil:
			return none, err
		case f.Channel != 0 && state == stateOpening:
			return none, unexpectedFrameOf(f)
		case f.Channel != 0:
			return none, errAbandoned
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
			return none, errAbandoned
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
		if len(parts) != 3 || parts[0] != "" { // RabbitMQ takes no identity besides the user
			return errAbandoned
		}
		user, password = parts[1], parts[2]
	case "AMQPLAIN":
		t, err := codec.ParseTable(m.Response)
		if err != nil {
			return errAbandoned
		}
		var hasUser, hasPassword bool
		user, hasUser = loginText(t, "LOGIN")
		password, hasPassword = loginText(t, "PASSWORD")
		if !hasUser || !hasPassword {
			return errAbandoned
		}
	case "ANONYMOUS": // which RabbitMQ takes for this login, unless it is told otherwise
		user, password = "guest", "guest"
	default:
		return errAbandoned
	}
	expires, ok := c.b.admits(user, password)
	if !ok {
		if !c.can("authentication_failure_close") {
			return errAbandoned
		}
		return &failure{0, raise(accessRefused,
			"Login was refused using authentication mechanism %s. For details see the broker logfile.", m.Mechanism)}
	}
	c.user = user
	c.b.update(func() { c.expireAt(expires) })
	return nil
}

// loginText returns a string or bytes of a table.
func loginText(t codec.Table, key string) (string, bool) {
	switch v, _ := t.Get(key); v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}

// admits checks a login, and returns when it expires: zero for never.
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

// expireAt closes the connection when its credentials expire.
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
	if frameMax < minFrameMax || frameMax > cfg.FrameMax || channelMax < 1 || channelMax > cfg.ChannelMax { // zero is no limit
		return errAbandoned
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
	v := c.b.vhosts[m.VHost] // fixed when the broker was made
	if v == nil {
		return &failure{m.ID(), raise(notAllowed, "vhost %s not found", m.VHost)}
	}
	c.b.update(func() {
		c.vhost = v
		c.send(0, new(codec.ConnectionOpenOk))
	})
	return nil
}

// A renewal is the answer of Config.Login to a new secret.
type renewal struct {
	expires time.Time
	ok      bool
}

// renew asks Config.Login about the secret in a frame of connection.update-secret, before the frame is handled.
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

package broker

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

const (
	// Version is the RabbitMQ that the broker says it is.
	Version = "4.3.6"

	handshakeFrame   = 131072 // before the tuning
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
	if header != codec.ProtocolHeader {
		c.b.update(func() {
			c.out = append(c.out, codec.ProtocolHeader...)
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

// expect reads a method of channel 0.
func expect[M codec.Method](c *conn) (M, error) {
	var none M
	for {
		f, err := c.reader.Next()
		if err != nil {
			return none, err
		}
		if f.Type == codec.FrameHeartbeat {
			continue
		}
		if f.Type != codec.FrameMethod || f.Channel != 0 {
			return none, errAbandoned
		}
		_, m, err := codec.Parse(f.Payload)
		if want, ok := m.(M); ok && err == nil {
			return want, nil
		}
		if _, ok := m.(*codec.ConnectionClose); ok {
			c.b.update(func() {
				c.send(0, new(codec.ConnectionCloseOk))
				c.cutSoon()
			})
			c.drain()
		}
		return none, errAbandoned
	}
}

func (c *conn) login() error {
	m, err := expect[*codec.ConnectionStartOk](c)
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
		if len(parts) != 3 {
			return errAbandoned
		}
		user, password = parts[1], parts[2]
	case "AMQPLAIN":
		t, err := codec.ParseTable(m.Response)
		if err != nil {
			return errAbandoned
		}
		u, _ := t.Get("LOGIN")
		p, _ := t.Get("PASSWORD")
		user, password = fmt.Sprint(u), fmt.Sprint(p)
	case "ANONYMOUS": // which RabbitMQ takes for this login, unless it is told otherwise
		user, password = "guest", "guest"
	default:
		return errAbandoned
	}
	if !c.b.admits(user, password) {
		if !c.can("authentication_failure_close") {
			return errAbandoned
		}
		return &failure{0, raise(accessRefused,
			"Login was refused using authentication mechanism %s. For details see the broker logfile.", m.Mechanism)}
	}
	c.user = user
	return nil
}

func (b *Broker) admits(user, password string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	want, ok := b.cfg.Users[user]
	return ok && !b.faults.refuseLogins && subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1
}

func (c *conn) tune() error {
	cfg := c.b.cfg
	c.reply(&codec.ConnectionTune{
		ChannelMax: uint16(cfg.ChannelMax), FrameMax: uint32(cfg.FrameMax), Heartbeat: uint16(cfg.Heartbeat / time.Second),
	})
	m, err := expect[*codec.ConnectionTuneOk](c)
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
	m, err := expect[*codec.ConnectionOpen](c)
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

// updateSecret checks a new password as RabbitMQ's own user database does: it takes any.
func (c *conn) updateSecret(string) { c.send(0, new(codec.ConnectionUpdateSecretOk)) }

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

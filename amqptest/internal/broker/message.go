package broker

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A message is immutable, because queues share it.
type message struct {
	exchange   string
	key        string
	keys       []string          // the routing keys: the key, then those of the CC and BCC headers
	bcc        []string          // keys hidden from recipients
	properties *codec.Properties // as published, except that the BCC header is removed; used for routing
	raw        []byte            // the encoded properties
	body       []byte
	ttl        int64 // milliseconds, -1 for none
	persistent bool
	deaths     []death // the latest first
	first      *death  // the earliest
	failures   int     // how often the message was requeued as failed or rejected, also in queues it was dead-lettered from
}

// A death is an entry of the x-death header.
type death struct {
	queue, reason, exchange string
	keys                    []string
	count                   int64
	at                      time.Time
	expiration              string
}

// newMessage creates a message from a publish. It takes ownership of the properties.
func newMessage(exchange, key string, p *codec.Properties, body []byte) (*message, *exception) {
	m := &message{exchange: exchange, key: key, keys: []string{key}, properties: p, body: body, ttl: -1}
	m.persistent = p.DeliveryMode == 2
	if p.Has&codec.HasExpiration != 0 {
		ttl, e := parseExpiration(p.Expiration)
		if e != nil {
			return nil, e
		}
		m.ttl = ttl
		p.Expiration = strconv.FormatInt(ttl, 10) // RabbitMQ normalizes the number
	}
	for _, name := range []string{"CC", "BCC"} {
		v, ok := p.Headers.Get(name)
		if !ok {
			continue
		}
		list, ok := v.([]any)
		if !ok {
			return nil, raise(preconditionFailed, "invalid message: {unacceptable_type_in_header,%q,%s}", name, codec.TypeName(v))
		}
		for _, k := range list {
			if k, ok := k.(string); ok {
				m.keys = append(m.keys, k)
				if name == "BCC" {
					m.bcc = append(m.bcc, k)
				}
			}
		}
		if name == "BCC" {
			p.Headers = p.Headers.Without("BCC") // remains removed even if it is empty
		}
	}
	m.raw = encode(p)
	return m, nil
}

// encode returns the properties as RabbitMQ encodes them after decoding.
func encode(p *codec.Properties) []byte {
	sent := *p
	sent.Headers = p.Headers.Sorted()
	return sent.Append(nil)
}

// parseExpiration parses the expiration property with RabbitMQ's rules and error texts.
func parseExpiration(s string) (int64, *exception) {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		digits = ""
	}
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	value := int64(0)
	for _, d := range digits[:n] {
		value = min(value*10+int64(d-'0'), maxExpiry+1)
	}
	switch {
	case n == 0:
		return 0, raise(preconditionFailed, "invalid expiration '%s': no_integer", s)
	case n < len(digits):
		return 0, raise(preconditionFailed, "invalid expiration '%s': {leftover_string,%q}", s, digits[n:])
	case s[0] == '-' && value > 0:
		return 0, raise(preconditionFailed, "invalid expiration '%s': {value_negative,%s}", s, "-"+strings.TrimLeft(digits, "0"))
	case value > maxExpiry:
		return 0, raise(preconditionFailed, "invalid expiration '%s': {value_too_large,%s}", s, digits)
	}
	return value, nil
}

// maxExpiry is ten years in milliseconds.
const maxExpiry = 315_360_000_000

// deadLettered returns the message as it is dead-lettered to an exchange, with a new routing key or its own.
func (m *message) deadLettered(queue, reason, exchange string, key *string, failures int, now time.Time) *message {
	d := death{queue: queue, reason: reason, exchange: m.exchange, count: 1, at: now}
	for _, k := range m.keys {
		if !slices.Contains(m.bcc, k) {
			d.keys = append(d.keys, k)
		}
	}
	c := *m
	if m.properties.Has&codec.HasExpiration != 0 {
		d.expiration = m.properties.Expiration
		p := *m.properties
		p.Has &^= codec.HasExpiration
		c.properties, c.raw, c.ttl = &p, encode(&p), -1
	}
	rest := slices.Clone(m.deaths)
	if i := slices.IndexFunc(rest, func(o death) bool { return o.queue == queue && o.reason == reason }); i >= 0 {
		d = rest[i]
		d.count++
		rest = slices.Delete(rest, i, i+1)
	}
	c.deaths = append([]death{d}, rest...)
	if c.first == nil {
		c.first = &c.deaths[0]
	}
	c.exchange, c.failures = exchange, failures
	if key != nil {
		c.key, c.keys, c.bcc = *key, []string{*key}, nil
	}
	return &c
}

// cycles reports whether a dead-lettered message was in the queue before without having been rejected since.
func (m *message) cycles(queue string) bool {
	for _, d := range m.deaths {
		if d.reason == "rejected" {
			return false
		}
		if d.queue == queue {
			return true
		}
	}
	return false
}

// wire returns the encoded properties of a delivery, with the counts of a quorum queue, or 0.
func (m *message) wire(acquired, failures int) []byte {
	if len(m.deaths) == 0 && acquired == 0 && failures == 0 {
		return m.raw
	}
	p := *m.properties
	p.SetHeaders(m.headers(acquired, failures))
	return p.Append(nil)
}

// headers returns the headers of a delivery.
func (m *message) headers(acquired, failures int) codec.Table {
	t := m.properties.Headers
	if len(m.deaths) > 0 {
		list := make([]any, len(m.deaths))
		for i, d := range m.deaths {
			list[i] = d.table()
		}
		t = t.With("x-death", list)
		for _, x := range []struct {
			which string
			d     *death
		}{{"x-first-death-", m.first}, {"x-last-death-", &m.deaths[0]}} {
			t = t.With(x.which+"queue", x.d.queue).With(x.which+"reason", x.d.reason)
			exchange := x.d.exchange
			t = t.With(x.which+"exchange", exchange)
		}
	}
	if acquired > 0 {
		t = t.With("x-acquired-count", int64(acquired))
	}
	if failures > 0 {
		t = t.With("x-delivery-count", int64(failures))
	}
	return t.Sorted()
}

func (d death) table() codec.Table {
	keys := make([]any, len(d.keys))
	for i, k := range d.keys {
		keys[i] = k
	}
	t := codec.Table{
		{Key: "count", Value: d.count},
		{Key: "reason", Value: d.reason},
		{Key: "queue", Value: d.queue},
		{Key: "time", Value: d.at.Truncate(time.Second)},
		{Key: "exchange", Value: d.exchange},
		{Key: "routing-keys", Value: keys},
	}
	if d.expiration != "" {
		t = append(codec.Table{{Key: "original-expiration", Value: d.expiration}}, t...)
	}
	return t
}

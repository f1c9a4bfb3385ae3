package codec

import "time"

// Properties are the basic properties of a message. Has marks the properties that are set; others are zero.
type Properties struct {
	Has                                    uint16
	ContentType, ContentEncoding           string
	Headers                                Table
	DeliveryMode, Priority                 uint8
	CorrelationID, ReplyTo, Expiration     string
	MessageID                              string
	Timestamp                              uint64
	Type, UserID, AppID, ClusterIDReserved string
}

// The bits of Properties.Has are the property flags of the protocol.
const (
	HasContentType uint16 = 1 << (15 - iota)
	HasContentEncoding
	HasHeaders
	HasDeliveryMode
	HasPriority
	HasCorrelationID
	HasReplyTo
	HasExpiration
	HasMessageID
	HasTimestamp
	HasType
	HasUserID
	HasAppID
	HasClusterID
)

// Time returns the timestamp, zero if it is not set.
func (p *Properties) Time() time.Time {
	if p.Has&HasTimestamp == 0 {
		return time.Time{}
	}
	return time.Unix(int64(p.Timestamp), 0).UTC()
}

// SetHeaders replaces the headers. An empty table removes them.
func (p *Properties) SetHeaders(t Table) {
	p.Headers = t
	p.Has |= HasHeaders
	if len(t) == 0 {
		p.Has &^= HasHeaders
	}
}

func (p *Properties) walk(c *coder) {
	c.u16(&p.Has)
	p.Has &^= 3 // RabbitMQ does not look at the bits that have no meaning in basic
	if p.Has&HasContentType != 0 {
		c.short(&p.ContentType)
	}
	if p.Has&HasContentEncoding != 0 {
		c.short(&p.ContentEncoding)
	}
	if p.Has&HasHeaders != 0 {
		c.table(&p.Headers)
	}
	if p.Has&HasDeliveryMode != 0 {
		c.u8(&p.DeliveryMode)
	}
	if p.Has&HasPriority != 0 {
		c.u8(&p.Priority)
	}
	if p.Has&HasCorrelationID != 0 {
		c.short(&p.CorrelationID)
	}
	if p.Has&HasReplyTo != 0 {
		c.short(&p.ReplyTo)
	}
	if p.Has&HasExpiration != 0 {
		c.short(&p.Expiration)
	}
	if p.Has&HasMessageID != 0 {
		c.short(&p.MessageID)
	}
	if p.Has&HasTimestamp != 0 {
		c.u64(&p.Timestamp)
	}
	if p.Has&HasType != 0 {
		c.short(&p.Type)
	}
	if p.Has&HasUserID != 0 {
		c.short(&p.UserID)
	}
	if p.Has&HasAppID != 0 {
		c.short(&p.AppID)
	}
	if p.Has&HasClusterID != 0 {
		c.short(&p.ClusterIDReserved)
	}
}

// ParseProperties decodes the properties of a content header.
func ParseProperties(b []byte) (*Properties, error) {
	p, c := new(Properties), coder{buf: b}
	p.walk(&c)
	return p, c.finish()
}

// Append appends the encoded properties.
func (p *Properties) Append(b []byte) []byte {
	c := coder{buf: b, writing: true}
	p.walk(&c)
	return c.buf
}

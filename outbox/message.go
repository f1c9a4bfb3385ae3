package outbox

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/amqpjson"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/producer"
)

// A Message is stored by [Outbox.Add] and published by a [Relay].
type Message struct {
	Exchange   string          // empty: the default exchange, whose routing key is a queue's name
	Key        string          // routing key
	Publishing amqp.Publishing // properties, headers and body

	// OrderingKey names the entity that the message is about, such as "order 17". Messages with the same OrderingKey are
	// published in their order, one at a time: each is sent after the confirm of the one before it. Messages with
	// different keys are published concurrently. Empty means no order. It is UTF-8 text of at most 200 bytes, without NUL.
	OrderingKey string
}

// shards is the number of parts into which the ordering keys are divided. Each part belongs to one relay at a time.
const shards = 16

const maxOrderingKey = 200

// keyless begins the stored ordering key of a message without one, followed by its message id. So every stored message
// has an ordering key, and a failure of one such message does not concern others.
const keyless = "#"

// keylessKey returns the stored ordering key of a message without one. PostgreSQL stores no NUL in text.
func keylessKey(messageID string) string {
	return keyless + strings.ReplaceAll(messageID, "\x00", " ")
}

// A row is a stored message.
type row struct {
	id       int64
	shard    int // negative while the message is held, see heldShard
	key      string
	message  []byte // JSON: exchange, routing key and properties
	body     []byte
	attempts int
	errors   string        // JSON: a list of attempt
	age      time.Duration // since Add, at the time of the query
	held     bool          // another message with its key is held
}

// heldShard returns the shard that a message of a shard has while it is held, and the reverse.
func heldShard(shard int) int { return -1 - shard }

// shardOf returns the shard of an ordering key.
func shardOf(key string) int {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % shards)
}

// newRow checks a message and returns its stored form.
func newRow(m Message, maxSize int) (row, error) {
	if p := validateOrderingKey(m.OrderingKey); p != nil {
		return row{}, fault("OrderingKey", p.Problem, p.Fix)
	}
	out := producer.Message{Exchange: m.Exchange, Key: m.Key, Publishing: m.Publishing}
	if err := out.Validate(maxSize); err != nil {
		return row{}, err
	}
	if out.Publishing.MessageId == "" {
		out.Publishing.MessageId = newID()
	}
	key := m.OrderingKey
	if key == "" {
		key = keylessKey(out.Publishing.MessageId)
	}
	text, err := encode(out)
	if err != nil {
		return row{}, err
	}
	body := out.Publishing.Body
	if body == nil {
		body = []byte{}
	}
	return row{shard: shardOf(key), key: key, message: text, body: body}, nil
}

func validateOrderingKey(key string) *validate.Problem {
	if p := validate.Text(key); p != nil {
		return p
	}
	if len(key) > maxOrderingKey || strings.ContainsRune(key, 0) {
		return &validate.Problem{Problem: fmt.Sprintf("%s has more than %d bytes or contains NUL", validate.Quote(key), maxOrderingKey), Fix: "use a shorter name, or a hash of it"}
	}
	return nil
}

// newID returns 128 random bits in hexadecimal.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// encode returns the exchange, the routing key and the properties of a message as JSON.
func encode(m producer.Message) ([]byte, error) {
	m.Publishing.Body = nil
	parts := amqpjson.Encode(m.Publishing)
	parts["exchange"], parts["key"] = m.Exchange, m.Key
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(parts); err != nil {
		return nil, fmt.Errorf("outbox: encode message: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// publishing returns the message of a row. Another program may have changed the row, so it may be invalid.
func (r *row) publishing() (m producer.Message, err error) {
	var parts map[string]any
	if err := json.Unmarshal(r.message, &parts); err != nil {
		return m, fault("message", "is not valid JSON: "+err.Error(), "correct the row, or drop the message")
	}
	m.Exchange, _ = parts["exchange"].(string)
	m.Key, _ = parts["key"].(string)
	delete(parts, "exchange")
	delete(parts, "key")
	if m.Publishing, err = amqpjson.Decode(parts); err != nil {
		return m, fault("message", err.Error(), "correct the row, or drop the message")
	}
	m.Publishing.Body = r.body
	return m, nil
}

// orderingKey returns the ordering key that the caller of Add passed with a message.
func orderingKey(stored, messageID string) string {
	if stored == keylessKey(messageID) {
		return ""
	}
	return stored
}

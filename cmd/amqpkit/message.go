package main

import (
	"encoding/json"
	"fmt"
	"maps"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/amqpjson"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/producer"
)

// linesHelp describes the line that encodeLine writes and decodeLine reads.
const linesHelp = `A message is one line, a JSON object that keeps the types of AMQP:

  {"exchange":"orders","key":"order.paid","message_id":"m-1",
   "headers":{"attempt":"int64:2"},"body":"a text, or base64:AAEC"}

Its other fields are content_type, content_encoding, delivery_mode ("uint8:2"),
priority, correlation_id, reply_to, expiration, timestamp ("time:1790000000"),
type, user_id and app_id. Each may be missing.`

// encodeLine returns a received message as the fields of a line.
func encodeLine(exchange, key string, msg amqp.Publishing) map[string]any {
	line := amqpjson.EncodeText(msg)
	line["exchange"], line["key"] = exchange, key
	return line
}

// decodeLine returns the message of a line that encodeLine or `parked export` wrote. The counts of RabbitMQ are left out, because they mean nothing
// after another publish.
func decodeLine(b []byte) (m producer.Message, err error) {
	var line map[string]any
	if err := json.Unmarshal(b, &line); err != nil {
		return m, fmt.Errorf("it is not a JSON object: %w", err)
	}
	for name, to := range map[string]*string{"exchange": &m.Exchange, "key": &m.Key} {
		if v, ok := line[name]; ok {
			if *to, ok = v.(string); !ok {
				return m, fmt.Errorf("%s is not a string", validate.Quote(name))
			}
			delete(line, name)
		}
	}
	m.Publishing, err = amqpjson.Decode(line)
	if m.Publishing.DeliveryMode == 0 {
		m.Publishing.DeliveryMode = amqp.Persistent
	}
	maps.DeleteFunc(m.Publishing.Headers, func(name string, _ any) bool { return history.IsCount(name) })
	return m, err
}

package inbox

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/amqpkit/amqpkit/consumer"
)

// A key identifies a message in the table.
type key struct{ consumer, id string }

func compareKeys(a, b key) int {
	return cmp.Or(strings.Compare(a.consumer, b.consumer), strings.Compare(a.id, b.id))
}

// key returns the key of a delivery. Without an id, the error rejects the message: a redelivery would not have one either.
func (x *inbox) key(d *consumer.Delivery) (key, error) {
	k := key{cmp.Or(x.Consumer, d.Queue), d.MessageId}
	field, fix := "MessageId", "publish messages with a message id, or set Config.ID"
	if x.ID != nil {
		k.id = x.ID(d)
		field, fix = "ID", "return an id for every message from Config.ID"
	}
	if k.id == "" {
		return k, consumer.Reject(fault(field, "the message has no id, so its duplicates cannot be recognised", fix))
	}
	if len(k.id) > maxID {
		hash := sha256.Sum256([]byte(k.id))
		k.id = "sha256:" + hex.EncodeToString(hash[:])
	}
	return k, nil
}

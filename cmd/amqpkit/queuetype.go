package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A queueType is what decides about the cost of reading a message and returning it.
type queueType struct {
	name  string // classic, quorum or stream; empty if unknown
	limit *int64 // argument x-delivery-limit of a quorum queue
}

// inequivalence is the text with which RabbitMQ refuses to declare an existing queue with another argument.
var (
	inequivalence = regexp.MustCompile(`(?s)inequivalent arg '([^']+)' for queue .*: received .* but current is (.*)$`)
	currentValue  = regexp.MustCompile(`(?s)^the value '(.*)' of type '(\w+)'$`)
)

// impossible is a value that RabbitMQ accepts for no queue, so that the declaration of readType cannot create one.
const impossible = "amqpkit-reads-the-type"

// readType reads the type of a queue without the management API. It declares a quorum queue with an impossible leader locator, and RabbitMQ's refusal
// names the first argument that differs from the existing queue, and its value. The type and the delivery limit are compared before the locator, and
// a few other arguments before them: each takes another attempt. The type stays unknown if the user may not configure the queue, or if a refusal
// is not understood.
func readType(ctx context.Context, ac *amqp.Connection, queue string) (queueType, error) {
	unknown, quorum := queueType{}, queueType{name: "quorum"}
	durable, autoDelete := true, false
	args := amqp.Table{"x-queue-type": quorum.name, "x-queue-leader-locator": impossible}
	for range 32 {
		declared, reason, err := tryDeclare(ctx, ac, queue, durable, autoDelete, args)
		switch {
		case err != nil:
			return unknown, err
		case declared:
			return quorum, nil
		}
		m := inequivalence.FindStringSubmatch(reason)
		if m == nil { // the user has no permission, or the queue is exclusive to another connection
			return unknown, nil
		}
		switch name, value := m[1], argumentValue(m[2]); name {
		case "durable":
			durable = !durable
		case "auto_delete":
			autoDelete = !autoDelete
		case "x-queue-type":
			if other, ok := value.(string); ok {
				return queueType{name: other}, nil
			}
			return queueType{name: "classic"}, nil
		case "x-delivery-limit":
			if n, ok := value.(int64); ok {
				quorum.limit = &n
				return quorum, nil
			}
			return unknown, nil
		case "x-queue-leader-locator":
			return quorum, nil
		default:
			if value == nil {
				return unknown, nil
			}
			args[name] = value
		}
	}
	return unknown, nil
}

// tryDeclare declares a queue on a separate channel and returns RabbitMQ's reason for a refusal.
func tryDeclare(ctx context.Context, ac *amqp.Connection, queue string, durable, autoDelete bool, args amqp.Table) (declared bool, reason string, err error) {
	ch, err := wire.Channel(ctx, ac)
	if err != nil {
		return false, "", err
	}
	err = wire.Do(ctx, ac, func() error {
		_, err := ch.QueueDeclare(queue, durable, autoDelete, false, false, args)
		return err
	})
	var refusal *amqp.Error
	if errors.As(err, &refusal) && refusal.Server && !ac.IsClosed() {
		return false, refusal.Reason, nil
	}
	if err == nil {
		err = ch.Close()
	}
	return true, "", err
}

// argumentValue returns the value in the text of a refusal, or nil.
func argumentValue(text string) any {
	if m := currentValue.FindStringSubmatch(text); m != nil {
		switch value := m[1]; m[2] {
		case "longstr":
			return value
		case "bool":
			return value == "true"
		default:
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				return n
			}
			return nil
		}
	}
	if len(text) >= 2 && text[0] == '\'' && text[len(text)-1] == '\'' {
		return text[1 : len(text)-1]
	}
	return nil
}

// A peekCost is what it costs to read messages of a queue and to return them.
type peekCost struct {
	text  string
	risky bool // RabbitMQ may drop a message
}

// costOf returns the cost for a type of queue and a version of RabbitMQ.
func costOf(t queueType, broker amqp.Table) peekCost {
	version, _ := broker["version"].(string)
	major, minor := parseVersion(version)
	at := "RabbitMQ " + version
	switch {
	case t.name == "":
		return peekCost{risky: true, text: "the type of the queue is unknown, because this user may not configure it; " +
			"if it is a quorum queue with a delivery limit, RabbitMQ may drop or dead-letter messages that were peeked at"}
	case t.name == "stream":
		return peekCost{text: "reading a stream changes nothing"}
	case t.name != "quorum":
		return peekCost{text: "classic queue: the messages are marked as redelivered and keep their order"}
	case t.limit != nil && *t.limit < 0:
		if major > 4 || major == 4 && minor >= 3 {
			return peekCost{text: "quorum queue without a delivery limit: the messages are marked as redelivered"}
		}
		return peekCost{text: "quorum queue without a delivery limit, " + at + ": the messages move to the tail of the queue"}
	case major > 4 || major == 4 && minor >= 3:
		return peekCost{risky: true, text: fmt.Sprintf("quorum queue with %s, %s: a message that was dead-lettered to this queue after it had reached a "+
			"delivery limit may be dropped or dead-lettered when it is returned", limitText(t, true), at)}
	case major == 4 || t.limit != nil:
		return peekCost{risky: true, text: fmt.Sprintf("quorum queue with %s, %s: each peek counts as a failed delivery, and RabbitMQ drops or "+
			"dead-letters a message at the limit", limitText(t, major >= 4), at)}
	}
	return peekCost{text: "quorum queue, " + at + ": the messages move to the tail of the queue"}
}

func limitText(t queueType, hasDefault bool) string {
	if t.limit == nil && hasDefault {
		return "the default delivery limit of 20"
	}
	if t.limit == nil {
		return "a delivery limit"
	}
	return fmt.Sprintf("a delivery limit of %d", *t.limit)
}

func parseVersion(s string) (major, minor int) {
	first, rest, _ := strings.Cut(s, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(first)
	minor, _ = strconv.Atoi(second)
	return major, minor
}

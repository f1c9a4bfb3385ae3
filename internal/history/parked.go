package history

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Parked returns the record of a message in a parking queue. Its Queue is empty if the headers do not name one.
func Parked(d *amqp.Delivery) Record {
	of := *d
	of.Headers = Latest(d.Headers)
	queue := Text(of.Headers, HeaderQueue)
	of.Exchange, of.RoutingKey = "", queue // if the record names no other address
	return Read(&of, queue)
}

// Replayed returns the copy of a parked message that is published again: its attempts start at one, its history is kept.
func Replayed(d *amqp.Delivery, now time.Time) *Copy {
	old := Parked(d)
	r := Record{
		Queue: old.Queue, Exchange: old.Exchange, Key: old.Key, Expiration: old.Expiration, UserID: old.UserID, CC: old.CC,
		Dropped: old.Dropped, Entries: old.Entries,
	}
	r.note(now, "replayed")
	return NewCopy(Publishing(d), r.Headers())
}

// Latest returns the headers of a parked message's record, corrected by RabbitMQ's record of the last dead-lettering, which is newer, because
// a copy carries none. If the message was dead-lettered in another queue than the record's, a handler has passed on its headers,
// and only the names of dropped headers still apply.
func Latest(h amqp.Table) amqp.Table {
	own := amqp.Table{}
	death := lastDeath(h)
	queue := Text(death, "queue")
	elsewhere := death != nil && queue != Text(h, HeaderQueue)
	for name, v := range h {
		if IsOwn(name) && (!elsewhere || name == HeaderDropped) {
			own[name] = v
		}
	}
	if death != nil {
		own[HeaderReason] = Text(death, "reason")
	}
	if elsewhere {
		own[HeaderQueue], own[HeaderExchange], own[HeaderKey] = queue, Text(death, "exchange"), ""
		if keys, _ := death["routing-keys"].([]any); len(keys) > 0 {
			own[HeaderKey] = keys[0]
		}
	}
	return own
}

// lastDeath returns RabbitMQ's record of the last dead-lettering, apart from the ones in the wait and parking queues of the message's own
// record.
func lastDeath(h amqp.Table) amqp.Table {
	of := Text(h, HeaderQueue)
	deaths, _ := h["x-death"].([]any)
	for _, d := range deaths { // the newest comes first
		death, _ := d.(amqp.Table)
		queue := Text(death, "queue")
		waited := IsWaitQueue(queue, of) && Text(death, "reason") == "expired"
		if queue != "" && (of == "" || !waited && queue != ParkingQueue(of)) {
			return death
		}
	}
	return nil
}

// Package parking inspects, replays, exports and imports parked messages: messages that a retry plan gave up, or that RabbitMQ
// dead-lettered. No message is lost: it leaves its queue only after RabbitMQ has confirmed the copy.
package parking

package amqptest

// DropConnections resets all connections, as a network that fails does (RST), and returns how many there were.
func (b *Broker) DropConnections() int { return b.broker.DropConnections() }

// CloseConnections closes all connections with a code and a text, such as 320 and "CONNECTION_FORCED - ...", and returns
// how many there were. The code is that of an AMQP connection exception: 320, or 501 and more.
func (b *Broker) CloseConnections(code int, text string) int {
	return b.broker.CloseConnections(code, text)
}

// CloseChannels closes all channels with a code and a text, such as 406 and "PRECONDITION_FAILED - ...", and returns how
// many there were. What was unsettled on them is back in its queues.
func (b *Broker) CloseChannels(code int, text string) int { return b.broker.CloseChannels(code, text) }

// CancelConsumers ends the consumers of a queue with basic.cancel, as RabbitMQ does when the queue's node goes, and
// returns how many there were.
func (b *Broker) CancelConsumers(queue string) int {
	return b.broker.CancelConsumers(b.cfg.VHosts[0], queue)
}

// HoldConfirms stores what is published and keeps the confirms back, until ReleaseConfirms.
func (b *Broker) HoldConfirms() { b.broker.HoldConfirms() }

// ReleaseConfirms sends the confirms that HoldConfirms kept back, and all confirms from now on. Like RabbitMQ it sends one
// basic.ack with multiple set for a run of messages.
func (b *Broker) ReleaseConfirms() { b.broker.ReleaseConfirms() }

// DropConfirms stores what is published and loses the confirms, while it is on.
func (b *Broker) DropConfirms(on bool) { b.broker.DropConfirms(on) }

// NackNext rejects the next n messages published with confirms: basic.nack, and no queue gets them.
func (b *Broker) NackNext(n int) { b.broker.NackNext(n) }

// Block raises an alarm, as RabbitMQ does when memory is low: a connection that publishes is told (connection.blocked)
// and not read any more, from its next message on. The others go on.
func (b *Broker) Block(reason string) { b.broker.Block(reason) }

// Unblock ends the alarm: what has been sent meanwhile is read.
func (b *Broker) Unblock() { b.broker.Unblock() }

// RefuseLogins has all logins fail with 403 ACCESS_REFUSED, or by a closed socket where the client does not know
// better, while it is on. Other than RabbitMQ the broker does not wait three seconds first.
func (b *Broker) RefuseLogins(on bool) { b.broker.RefuseLogins(on) }

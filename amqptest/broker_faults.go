package amqptest

// DropConnections resets all connections (RST), like a network failure, and returns their number.
func (b *Broker) DropConnections() int { return b.broker.DropConnections() }

// CloseConnections closes all connections with a reply code and text, for example 320 and "CONNECTION_FORCED - ...",
// and returns their number. The code must be that of a connection exception: 320, or 501 and above.
func (b *Broker) CloseConnections(code int, text string) int {
	return b.broker.CloseConnections(nil, code, text)
}

// CloseConnection is [Broker.CloseConnections] for the connections with a connection_name. Several connections may have the same name.
func (b *Broker) CloseConnection(name string, code int, text string) int {
	return b.broker.CloseConnections(func(n string) bool { return n == name }, code, text)
}

// CloseChannels closes all channels with a reply code and text, for example 406 and "PRECONDITION_FAILED - ...", and
// returns their number. Unsettled deliveries are requeued.
func (b *Broker) CloseChannels(code int, text string) int { return b.broker.CloseChannels(code, text) }

// CancelConsumers cancels the consumers of a queue with basic.cancel, as RabbitMQ does when the queue's node fails, and
// returns their number.
func (b *Broker) CancelConsumers(queue string) int {
	return b.broker.CancelConsumers(b.cfg.VHosts[0], queue)
}

// HoldConfirms delays all confirms until ReleaseConfirms. Published messages are still routed and stored.
func (b *Broker) HoldConfirms() { b.broker.HoldConfirms() }

// ReleaseConfirms ends HoldConfirms and sends the delayed confirms. Like RabbitMQ, it confirms consecutive messages
// with one basic.ack whose multiple flag is set.
func (b *Broker) ReleaseConfirms() { b.broker.ReleaseConfirms() }

// DropConfirms discards all confirms while on is true. Published messages are still routed and stored.
func (b *Broker) DropConfirms(on bool) { b.broker.DropConfirms(on) }

// NackNext rejects the next n messages that are published with confirms: the client receives basic.nack and no queue
// stores the message.
func (b *Broker) NackNext(n int) { b.broker.NackNext(n) }

// Block raises a resource alarm, as RabbitMQ does when memory runs low. From its next message on, a publishing
// connection receives connection.blocked and is not read. Other connections are unaffected.
func (b *Broker) Block(reason string) { b.broker.Block(reason) }

// Unblock clears the alarm. The broker continues to read the blocked connections.
func (b *Broker) Unblock() { b.broker.Unblock() }

// RefuseLogins makes all logins fail with 403 (ACCESS_REFUSED) while on is true. Clients without the capability
// authentication_failure_close see a closed socket instead. Unlike RabbitMQ, the broker does not wait three seconds
// first.
func (b *Broker) RefuseLogins(on bool) { b.broker.RefuseLogins(on) }

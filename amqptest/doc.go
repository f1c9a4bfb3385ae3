// Package amqptest shows what a program does with RabbitMQ, and when RabbitMQ, or the way to it, fails.
//
// A [Broker] is a RabbitMQ inside the test process, for any AMQP 0-9-1 client, in milliseconds and without Docker. It
// fails on demand, tells what it has, and its clock can be moved. What it does, and what it refuses, is said there;
// docs/testing.md tests a whole service with it.
//
//	func TestInvoiceSurvivesALostConfirm(t *testing.T) {
//		broker := amqptest.Start(t)
//		service := startService(t, broker.URL())
//		broker.HoldConfirms() // stored, and nobody knows
//		service.Order("book")
//		broker.DropConnections()
//		// … and the invoice is there: broker.Messages("invoices")
//	}
//
// A [Proxy] stands between AMQP 0-9-1 clients and a broker, that one or a real one. It carries everything on unchanged,
// until a test asks it to misbehave. It knows frames, so it can lose a confirm and nothing else, cut a connection in the
// middle of a message, or speak for the broker; and it tells what really went over the wire, whatever the client says of
// itself.
//
//	func TestOrderSurvivesALostConfirm(t *testing.T) {
//		proxy := amqptest.StartProxy(t, "amqp://guest:guest@localhost:5672/")
//		service := startService(t, proxy.URL())
//		proxy.CutAt(amqptest.FromBroker, amqptest.Before, amqptest.IsConfirm) // stored, and nobody knows
//		service.Order("book")
//		// … and the order is there, once.
//	}
//
// What to ask of a Broker:
//
//   - The network fails: [Broker.DropConnections]. The broker is restarted, or crashes: [Broker.Stop], [Broker.Kill],
//     [Broker.Start].
//   - It has the message, and its confirm is late or lost: [Broker.HoldConfirms], [Broker.DropConfirms]. It refuses the
//     message: [Broker.NackNext].
//   - It is out of memory: [Broker.Block]. The password has changed: [Broker.RefuseLogins].
//   - A queue moves, an operator or a neighbour's mistake ends things: [Broker.CancelConsumers],
//     [Broker.CloseConnections], [Broker.CloseChannels].
//   - What is where? [Broker.Messages], [Broker.Queue], [Broker.Published]. Is everything done? [Broker.Await],
//     [Broker.AwaitIdle].
//   - What happens in an hour? [Config.StoppedClock] and [Broker.Advance], or testing/synctest with [Config.InMemory].
//
// What to ask of a Proxy, and with which fault:
//
//   - The connection breaks: [Faults.Cut]. In the middle of a frame: [Faults.CutAfter]. At the worst moment:
//     [Faults.CutAt].
//   - A network drops everything, and nobody says so: [Faults.Discard] of [Both].
//   - The broker is alive and does not listen, as under a memory alarm: [Faults.Hold] of [FromClient], with
//     [ConnectionBlocked] injected.
//   - The broker has the message and its confirm is late or lost: [Faults.HoldConfirms], [Faults.DropConfirms].
//   - The network is slow: [Faults.Delay], [Faults.Throttle], [Faults.Fragment].
//   - A queue is deleted, a channel is closed, an operator closes the connection: [Faults.Inject] of [BasicCancel],
//     [ChannelClose], [ConnectionClose].
//   - The broker is down, or another node takes over: [Proxy.Refuse], [Proxy.Redirect].
//   - What did my service settle? [Proxy.Settlements], and [Proxy.Observe] for everything.
//
// A fault concerns all links, or with [Faults.Only] those of one client. The proxy needs nothing but the standard
// library, and works for clients in any language. It cannot look into TLS: the broker's URL has to be of amqp://.
package amqptest

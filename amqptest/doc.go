// Package amqptest tests how a program uses RabbitMQ and how it behaves when RabbitMQ or the network fails.
//
// A [Broker] is a RabbitMQ-compatible broker inside the test process. It serves any AMQP 0-9-1 client, starts in milliseconds and needs
// no Docker. A test can make it fail, inspect its queues and move its clock. docs/testing.md shows the test of a whole service.
//
//	func TestInvoiceSurvivesALostConfirm(t *testing.T) {
//		broker := amqptest.Start(t)
//		service := startService(t, broker.URL())
//		broker.HoldConfirms() // stored, but not confirmed
//		service.Order("book")
//		broker.DropConnections()
//		// … and the invoice exists: broker.Messages("invoices")
//	}
//
// A [Proxy] forwards connections to a broker, either a Broker or a real RabbitMQ, and injects faults. Because it parses
// frames, it can drop only the confirms, cut a connection in the middle of a message, or send frames in the broker's name.
// It also reports the frames on the wire, independently of the client's own reports.
//
//	func TestOrderSurvivesALostConfirm(t *testing.T) {
//		proxy := amqptest.StartProxy(t, "amqp://guest:guest@localhost:5672/")
//		service := startService(t, proxy.URL())
//		proxy.CutAt(amqptest.FromBroker, amqptest.BeforeFrame, amqptest.IsConfirm) // stored, but not confirmed
//		service.Order("book")
//		// … and the order was stored exactly once.
//	}
//
// Use a Broker to
//
//   - publish the input of a test: [Broker.Publish], which returns a [*PublishError] if the broker would close the client's channel
//   - inspect the results: [Broker.Messages], [Broker.Queue], [Broker.Published]
//   - wait for a result: [Broker.Await], [Broker.AwaitIdle]
//   - simulate network failures: [Broker.DropConnections]
//   - restart or crash the broker: [Broker.Stop], [Broker.Kill], [Broker.Start]
//   - delay or lose confirms, or refuse publishes: [Broker.HoldConfirms], [Broker.DropConfirms], [Broker.NackNext]
//   - block publishers by a memory alarm: [Broker.Block]
//   - refuse logins or let them expire: [Broker.RefuseLogins], [Config.Login]
//   - cancel consumers and close channels or connections: [Broker.CancelConsumers], [Broker.CloseChannels],
//     [Broker.CloseConnections], [Broker.CloseConnection]
//   - delay a single request: [Broker.Intercept]
//   - answer or refuse it: [Request.Reply], [Request.CloseChannel], [Request.CloseConnection], [Request.DropConnection]
//   - let time pass: [Config.ManualClock] and [Broker.Advance], or testing/synctest with [Config.InMemory].
//
// Use a Proxy to
//
//   - cut connections, also after a number of bytes: [Faults.Cut], [Faults.CutAfter]
//   - cut a connection at a certain frame: [Faults.CutAt] at a [CutPoint] ([BeforeFrame], [InsideFrame], [AfterFrame])
//   - close one direction of connections: [Faults.HalfClose]
//   - drop all packets silently: [Faults.Blackhole]
//   - simulate a peer that is alive but does not read, as under a memory alarm: [Faults.Pause] of [FromClient]
//   - delay or lose confirms: [Faults.HoldConfirms], [Faults.DropConfirms]
//   - slow the network down: [Faults.Delay], [Faults.Throttle], [Faults.Fragment]
//   - send frames in the name of a peer: [Faults.Inject] with [BasicAck], [BasicNack], [BasicDeliver], [BasicCancel], [ChannelClose],
//     [ConnectionClose], [ConnectionBlocked], [ConnectionUnblocked], [Heartbeat] or any [MethodFrame]
//   - send bytes that are not a frame: [Faults.InjectRaw]
//   - wait for clients: [Faults.AwaitLinks]
//   - make the broker unreachable, or switch to another node: [Proxy.RefuseConnections], [Proxy.Redirect]
//   - check how a service settled its deliveries: [Proxy.Settlements]
//   - read or wait for events on the wire: [Proxy.Observe], [Proxy.Next]
//   - remove faults: [Faults.Clear].
//
// Clients connect to [Broker.URL] or [Proxy.URL]. [Broker.Addr] and [Proxy.Addr] are the host and port of the URL.
//
// A [Link] is one connection of a client through the proxy. A fault affects all links, or the links selected by [Faults.ForLinks].
// Many faults affect one [Direction]: [FromClient], [FromBroker] or [BothDirections]. The proxy works for clients in any language. It
// cannot read TLS, so the broker's URL must be an amqp:// URL.
//
// # Frames
//
// The type of a [Frame] is [FrameMethod], [FrameHeader], [FrameBody] or [FrameHeartbeat]. [IsMethod] and [IsConfirm] select method frames
// for [Faults.CutAt].
//
// # Events
//
// The [Kind] of an [Event] describes:
//
//   - a link: [LinkOpened], [LinkClosed]
//   - a connection: [ConnectionOpened], [ConnectionClosed], [Blocked], [Unblocked]
//   - a channel or a consumer: [ChannelOpened], [ChannelClosed], [Subscribed], [Cancelled]
//   - a published message: [Published], [Confirmed], [Nacked], [ConfirmHeld], [Returned]
//   - a delivery: [Delivered], [Acked], [Rejected], [DeliveryNacked].
package amqptest

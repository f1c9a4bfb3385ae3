package consumer

// totals counts the messages of a Run.
type totals struct {
	redelivered  int // deliveries that RabbitMQ had marked as redelivered
	settled      int // settlements sent for handled or refused messages
	acknowledged int // results of handlers, and refused messages under rejected
	rejected     int
	requeued     int
	failed       int
	returned     int // requeued at the shutdown without a handler
}

func (t *totals) add(o totals) {
	t.redelivered += o.redelivered
	t.settled += o.settled
	t.acknowledged += o.acknowledged
	t.rejected += o.rejected
	t.requeued += o.requeued
	t.failed += o.failed
	t.returned += o.returned
}

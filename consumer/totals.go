package consumer

// totals counts the messages of a Run.
type totals struct {
	redelivered int // deliveries with the redelivered flag
	settled     int // settlements sent, except for returned deliveries
	returned    int // deliveries requeued at the shutdown without a handler

	// The results of handlers. Deliveries rejected without a handler count as rejected.
	acknowledged int
	rejected     int
	requeued     int
	failed       int
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

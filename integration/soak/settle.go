package soak

import (
	"fmt"
	"strings"
)

// runOf returns the Run that a consumer tag is of: "NAME-RUN" is followed by a dash and random letters.
func runOf(tag string) string { return beforeLastDash(tag) }

// consumerOf returns the consumer that a tag is of.
func (s *state) consumerOf(tag string) Consumer { return s.run.Consumers[beforeLastDash(runOf(tag))] }

func beforeLastDash(s string) string { return s[:max(0, strings.LastIndexByte(s, '-'))] }

// settlements are the frames by which a handler's result may be settled, with their requeue bits.
var settlements = map[string]string{
	OK:      "Acked",
	Reject:  "Rejected",
	Fail:    "Rejected requeue",
	Requeue: "DeliveryNacked requeue",
	Moved:   "Acked",
}

// wrong says what is wrong with a settlement, or "". Everything that could excuse it has happened before it.
func (s *state) wrongSettlement(c *channel, w *Wire) string {
	frame := w.Event
	if w.Requeue {
		frame += " requeue"
	}
	at := fmt.Sprintf("%s of tag %d on channel %d of link %d/%d", frame, w.Tag, w.Channel, w.Node, w.Link)
	d := c.deliveries[w.Tag]
	if d == nil {
		return at + ", where nothing was delivered under that tag"
	}
	if d.settled || w.Stray {
		return at + ", which was settled before"
	}
	d.settled = true
	back := frame == "DeliveryNacked requeue" && s.stopped[runOf(d.consumer)] // given back, not begun
	h := s.handled[deliveryID{d.consumer, w.Tag}]
	switch {
	case h == nil && !back:
		return fmt.Sprintf("%s (%s), whose handler had not returned", at, w.MessageID)
	case h != nil && h.Result == Moved && !s.confirmedMove(c.link.client, h):
		return fmt.Sprintf("%s (%s), which failed, and nothing before it confirms that it is in another queue", at, w.MessageID)
	case h == nil, settlements[h.Result] == frame:
		return ""
	case h.Result == Fail && back: // interrupted, when the drain time was over
		return ""
	}
	return fmt.Sprintf("%s (%s), whose handler had returned %q", at, w.MessageID, h.Result)
}

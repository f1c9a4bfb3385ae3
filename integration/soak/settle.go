package soak

import (
	"fmt"
	"strings"
)

// runOf returns the name of the Run in a consumer tag. The tag is "NAME-RUN", a dash and random letters.
func runOf(tag string) string { return beforeLastDash(tag) }

// consumerOf returns the consumer that uses a tag.
func (s *state) consumerOf(tag string) Consumer { return s.run.Consumers[beforeLastDash(runOf(tag))] }

func beforeLastDash(s string) string { return s[:max(0, strings.LastIndexByte(s, '-'))] }

// settlements are the frames that settle a delivery, by the result of its handler.
var settlements = map[string]string{
	OK:      "Acked",
	Reject:  "Rejected",
	Fail:    "Rejected requeue",
	Requeue: "DeliveryNacked requeue",
	Moved:   "Acked",
}

// wrongSettlement returns the error of a settlement, or "". Every record that can justify a settlement precedes it.
func (s *state) wrongSettlement(c *channel, w *Wire) string {
	frame := w.Event
	if w.Requeue {
		frame += " requeue"
	}
	at := fmt.Sprintf("%s of tag %d on channel %d of link %d/%d", frame, w.Tag, w.Channel, w.Node, w.Link)
	d := c.deliveries[w.Tag]
	if d == nil {
		return at + ", an unknown delivery tag"
	}
	if d.settled || w.Stray {
		return at + ", which was already settled"
	}
	d.settled = true
	requeued := frame == "DeliveryNacked requeue" && s.stopped[runOf(d.consumer)] // requeued by a stopped Run
	h := s.handled[deliveryID{d.consumer, w.Tag}]
	switch {
	case h == nil && !requeued:
		return fmt.Sprintf("%s (%s) before its handler returned", at, w.MessageID)
	case h != nil && h.Result == Moved && !s.confirmedMove(c.link.client, h):
		return fmt.Sprintf("%s (%s), which failed, without a confirmed move", at, w.MessageID)
	case h == nil, settlements[h.Result] == frame:
		return ""
	case h.Result == Fail && requeued: // DrainTimeout elapsed during the handler
		return ""
	}
	return fmt.Sprintf("%s (%s), whose handler returned %q", at, w.MessageID, h.Result)
}

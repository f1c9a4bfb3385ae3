package broker

import (
	"fmt"
	"slices"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// publishAll publishes to queues in one write.
func (r *rawConn) publishAll(queues ...string) {
	r.t.Helper()
	var b []byte
	for _, q := range queues {
		b = codec.AppendMethod(b, 1, &codec.BasicPublish{Key: q})
		b = codec.AppendContent(b, 1, []byte{0, 0}, []byte("m"), 131072)
	}
	r.write(b)
}

// confirmsUntil returns the confirms received before a method of the given kind.
func (r *rawConn) confirmsUntil(last codec.Method) []string {
	r.t.Helper()
	var got []string
	for {
		_, m, err := codec.Parse(r.read().Payload)
		if err != nil || m == nil {
			r.t.Fatalf("%v %v", m, err)
		}
		switch m := m.(type) {
		case *codec.BasicAck:
			got = append(got, fmt.Sprintf("ack %d %v", m.Tag, m.Multiple))
		case *codec.BasicNack:
			got = append(got, fmt.Sprintf("nack %d %v", m.Tag, m.Multiple))
		}
		if m.ID() == last.ID() {
			return got
		}
	}
}

func confirmingClient(t *testing.T) (*stage, *rawConn) {
	t.Helper()
	s := newStage(t)
	s.classic("q", nil)
	s.classic("full", map[string]any{"x-max-length": 0, "x-overflow": "reject-publish"})
	r := rawClient(t, s.Broker)
	r.method(1, new(codec.ConfirmSelect))
	r.expect(new(codec.ConfirmSelectOk))
	return s, r
}

func TestMessagesReadTogetherAreConfirmedTogether(t *testing.T) {
	for name, c := range map[string]struct{ queues, want []string }{
		"one":              {[]string{"q"}, []string{"ack 1 false"}},
		"several":          {[]string{"q", "q", "q"}, []string{"ack 3 true"}},
		"unroutable":       {[]string{"none", "none"}, []string{"ack 1 false", "ack 2 false"}},
		"one rejected":     {[]string{"full"}, []string{"nack 1 true"}},
		"several rejected": {[]string{"full", "full"}, []string{"nack 2 true"}},
		"rejected last":    {[]string{"q", "q", "full"}, []string{"ack 2 true", "nack 3 false"}},
		"rejected first":   {[]string{"full", "q", "q"}, []string{"ack 2 false", "ack 3 false", "nack 1 true"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := confirmingClient(t)
			r.publishAll(c.queues...)
			r.method(1, new(codec.BasicQos))
			if got := r.confirmsUntil(new(codec.BasicQosOk)); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestConfirmsDoNotWaitForMoreThanWasRead(t *testing.T) {
	_, r := confirmingClient(t)
	whole := codec.AppendContent(codec.AppendMethod(nil, 1, &codec.BasicPublish{Key: "q"}), 1, []byte{0, 0}, []byte("m"), 131072)
	r.write(append(slices.Clone(whole), whole[:5]...)) // and a part of the next frame
	if m := r.expect(new(codec.BasicAck)).(*codec.BasicAck); m.Tag != 1 || m.Multiple {
		t.Errorf("%+v", m)
	}
	r.write(whole[5:])
	if m := r.expect(new(codec.BasicAck)).(*codec.BasicAck); m.Tag != 2 {
		t.Errorf("%+v", m)
	}
}

func TestMultipleConfirmExcludesHeldAndDroppedConfirms(t *testing.T) {
	s, r := confirmingClient(t)
	qos := func() []string {
		r.method(1, new(codec.BasicQos))
		return r.confirmsUntil(new(codec.BasicQosOk))
	}
	s.HoldConfirms()
	r.publishAll("q", "q", "q")
	if got := qos(); len(got) > 0 {
		t.Fatalf("%q came while confirms are held", got)
	}
	s.ReleaseConfirms()
	if m := r.expect(new(codec.BasicAck)).(*codec.BasicAck); m.Tag != 3 || !m.Multiple {
		t.Errorf("released as %+v, want one for all", m)
	}
	s.DropConfirms(true)
	r.publishAll("q")
	_ = qos()
	s.DropConfirms(false)
	r.publishAll("q", "q")
	if got, want := qos(), []string{"ack 5 false", "ack 6 false"}; !slices.Equal(got, want) {
		t.Errorf("%q after a lost confirm, want %q", got, want)
	}
}

func TestLostConnectionLeavesNoConfirms(t *testing.T) {
	s, r := confirmingClient(t)
	publish := codec.AppendContent(codec.AppendMethod(nil, 1, &codec.BasicPublish{Key: "q"}), 1, []byte{0, 0}, []byte("m"), 131072)
	r.write(append(slices.Clone(publish), 1, 0, 1, 0, 0, 0, 0, 'x')) // followed by a frame with a wrong end octet
	r.expect(new(codec.BasicAck))
	r.expect(new(codec.ConnectionClose))
	s.must(r.nc.Close())
	s.await("quiet", s.Idle)
}

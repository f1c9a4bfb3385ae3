package consumer

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

func encodedOffset(kind byte, v []byte) []byte {
	return slices.Concat([]byte{byte(len(streamOffset))}, []byte(streamOffset), []byte{kind}, v)
}

func atOffset(n uint64) []byte {
	return encodedOffset('l', binary.BigEndian.AppendUint64(nil, n))
}

func atSpec(s string) []byte {
	return encodedOffset('S', append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...))
}

// offset returns headers with a stream offset.
func offset(n int64, headers amqp.Table) amqp.Table {
	t := amqp.Table{streamOffset: n}
	maps.Copy(t, headers)
	return t
}

// subscribes returns the arguments of each basic.consume except the ones for the first message.
func (b *connections) subscribes() (args [][]byte) {
	for _, a := range b.calls(consume) {
		if !bytes.Contains(a, []byte("first-")) {
			args = append(args, a)
		}
	}
	return args
}

func TestStreamPositionSurvivesErrorsButNotARedeclaredStream(t *testing.T) {
	const missing = "NOT_FOUND - no queue 'orders' in vhost '/'"
	lose := func(l *link) { l.cut() }
	cancelled := func(l *link) {
		l.request.Load().Reply(amqptest.BasicCancel(l.request.Load().Channel, l.tags[len(l.tags)-1]))
	}
	for name, c := range map[string]struct {
		lose   func(*link)
		refuse func(*link) // the second subscribe
		first  amqp.Table  // the headers of the first message after that
		want   []byte      // the offset of the third subscribe
	}{
		"403":                       {lose, func(l *link) { l.refuse(403, "ACCESS_REFUSED - read access refused") }, offset(40, nil), atOffset(42)},
		"404":                       {lose, func(l *link) { l.refuse(404, missing) }, offset(40, nil), atOffset(42)},
		"404 after a cancel":        {cancelled, func(l *link) { l.refuse(404, missing) }, nil, atSpec("first")},
		"a node that is down":       {cancelled, func(l *link) { l.refuse(404, "NOT_FOUND - process not found") }, offset(40, nil), atOffset(42)},
		"a connection that is lost": {lose, lose, offset(40, nil), atOffset(42)},
		"no answer":                 {lose, func(*link) {}, offset(40, nil), atOffset(42)},
		"older messages expired":    {lose, lose, offset(41, nil), atOffset(42)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &connections{stream: true, first: offset(40, nil)}
				set := func(mute method, first amqp.Table) {
					b.mu.Lock()
					defer b.mu.Unlock()
					b.mute, b.first = mute, first
				}
				n := 0
				b.on = func(m method, l *link) {
					if m != consume || len(b.subscribes()) == n {
						return
					}
					switch n++; n {
					case 1:
						l.deliver(offset(41, nil))
						time.AfterFunc(time.Second, func() { set(consume, c.first); c.lose(l) })
					case 2:
						set(method{}, c.first)
						c.refuse(l)
					}
				}
				_, end := runOn(t, b, Config{Arguments: amqp.Table{streamOffset: "first"}}, nop)
				time.Sleep(30 * time.Second)
				synctest.Wait()
				for i, want := range [][]byte{atSpec("first"), atOffset(42), c.want} {
					if args := b.subscribes(); len(args) <= i || !bytes.Contains(args[i], want) {
						t.Errorf("subscribe %d of %d has a wrong offset", i, len(args))
					}
				}
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

func TestRedeclaredStreamIsReadFromItsFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{stream: true, first: offset(40, nil)}
		n := 0
		b.on = func(m method, l *link) {
			if m != consume || len(b.subscribes()) == n {
				return
			}
			if n++; n == 1 {
				l.deliver(offset(41, nil))
				time.AfterFunc(time.Second, func() {
					b.mu.Lock()
					b.first = offset(0, nil)
					b.mu.Unlock()
					l.cut()
				})
			}
		}
		c, end := runOn(t, b, Config{Arguments: amqp.Table{streamOffset: "next"}}, nop)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		args := b.subscribes()
		for i, want := range [][]byte{atSpec("next"), atOffset(42), atSpec("first")} {
			if len(args) <= i || !bytes.Contains(args[i], want) {
				t.Errorf("subscribe %d of %d has a wrong offset", i, len(args))
			}
		}
		if len(args) != 3 || c.Err() != nil {
			t.Errorf("%d subscribes, Err = %v", len(args), c.Err())
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestOffsetKeepsItsMeaningUntilTheFirstDelivery(t *testing.T) {
	for _, c := range []struct{ offset, want any }{
		{"first", "first"},
		{int64(7), int64(7)},
		{time.Unix(7, 0), time.Unix(7, 0)},
		{"next", "92s"},
		{"last", "92s"},
		{"5m", "392s"},
		{"2h", "7292s"},
		{"1D", "86492s"},
	} {
		if got := since(c.offset, 90*time.Second+time.Millisecond); got != c.want {
			t.Errorf("%v: 90 s later %v, want %v", c.offset, got, c.want)
		}
	}
}

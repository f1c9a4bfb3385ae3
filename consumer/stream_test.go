package consumer

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func encodedOffset(kind byte, v []byte) []byte {
	return slices.Concat(short(streamOffset), []byte{kind}, v)
}

func atOffset(n uint64) []byte {
	return encodedOffset('l', binary.BigEndian.AppendUint64(nil, n))
}

func atSpec(s string) []byte { return encodedOffset('S', long([]byte(s))) }

// subscribes returns the arguments of each basic.consume, except for those that read the first message.
func (b *fakeBroker) subscribes() (args [][]byte) {
	for _, a := range b.calls(consume) {
		if !bytes.Contains(a, []byte("first-")) {
			args = append(args, a)
		}
	}
	return args
}

// refuse closes the channel in answer to basic.consume.
func (l *link) refuse(code uint16, reason string) {
	l.say(l.ch, method{20, 40}, binary.BigEndian.AppendUint16(nil, code), short(reason), []byte{0, 60, 0, 20})
}

func TestTheStreamPositionSurvivesEveryErrorAndNotANewStream(t *testing.T) {
	const missing = "NOT_FOUND - no queue 'orders' in vhost '/'"
	lose := func(l *link) { _ = l.pipe.Close() }
	cancelled := func(l *link) { l.say(l.ch, method{60, 30}, short(l.tags[len(l.tags)-1]), []byte{1}) }
	for name, c := range map[string]struct {
		lose   func(*link)
		refuse func(*link) // the second subscribe
		first  []byte      // the first message after that
		want   []byte      // where the third begins
	}{
		"403":                       {lose, func(l *link) { l.refuse(403, "ACCESS_REFUSED - read access refused") }, atOffset(40), atOffset(42)},
		"404":                       {lose, func(l *link) { l.refuse(404, missing) }, atOffset(40), atOffset(42)},
		"404 after a cancel":        {cancelled, func(l *link) { l.refuse(404, missing) }, nil, atSpec("first")},
		"a node that is down":       {cancelled, func(l *link) { l.refuse(404, "NOT_FOUND - process not found") }, atOffset(40), atOffset(42)},
		"a connection that is lost": {lose, lose, atOffset(40), atOffset(42)},
		"no answer":                 {lose, func(*link) {}, atOffset(40), atOffset(42)},
		"older messages expired":    {lose, lose, atOffset(41), atOffset(42)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &fakeBroker{first: atOffset(40)}
				set := func(mute method, first []byte) {
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
						l.deliver(atOffset(41))
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
						t.Errorf("subscribe %d of %d does not begin where it should", i, len(args))
					}
				}
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

func TestAStreamThatWasDeclaredAgainIsReadFromItsFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{first: atOffset(40)}
		n := 0
		b.on = func(m method, l *link) {
			if m != consume || len(b.subscribes()) == n {
				return
			}
			if n++; n == 1 {
				l.deliver(atOffset(41))
				time.AfterFunc(time.Second, func() {
					b.mu.Lock()
					b.first = atOffset(0)
					b.mu.Unlock()
					_ = l.pipe.Close()
				})
			}
		}
		c, end := runOn(t, b, Config{Arguments: amqp.Table{streamOffset: "next"}}, nop)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		args := b.subscribes()
		for i, want := range [][]byte{atSpec("next"), atOffset(42), atSpec("first")} {
			if len(args) <= i || !bytes.Contains(args[i], want) {
				t.Errorf("subscribe %d of %d does not begin where it should", i, len(args))
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

func TestAnOffsetKeepsItsMeaningUntilTheFirstDelivery(t *testing.T) {
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

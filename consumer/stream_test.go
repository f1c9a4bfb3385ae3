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

func TestAStreamIsReadFromItsBeginningWhenItWasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offset := func(kind byte, v []byte) []byte { return slices.Concat(short(streamOffset), []byte{kind}, v) }
		from := func(n uint64) []byte { return offset('l', binary.BigEndian.AppendUint64(nil, n)) }
		first := offset('S', long([]byte("first")))
		subscribes := 0
		b := &fakeBroker{}
		mute := func(m method) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.mute = m
		}
		b.on = func(m method, l *link) {
			if m != consume {
				return
			}
			switch subscribes++; subscribes {
			case 1:
				l.deliver(from(41))
				time.AfterFunc(time.Second, func() { _ = l.pipe.Close() })
			case 2:
				time.AfterFunc(time.Second, func() {
					mute(consume)
					l.say(l.ch, method{60, 30}, short(l.tags[0]), []byte{1}) // basic.cancel
				})
			case 3: // 404
				mute(method{})
				l.say(l.ch, method{20, 40}, []byte{1, 148}, short("NOT_FOUND"), []byte{0, 60, 0, 20})
			}
		}
		_, end := runOn(t, b, Config{Arguments: amqp.Table{streamOffset: "first"}}, nop)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i, want := range [][]byte{first, from(42), from(42), first} {
			if args := b.calls(consume); len(args) <= i || !bytes.Contains(args[i], want) {
				t.Errorf("subscribe %d of %d does not begin where it should", i, len(args))
			}
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

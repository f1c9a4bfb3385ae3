package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

const bound = 3 * time.Second

// linked returns a bounded Link and the socket at its other end. What is written there is taken
// only when it is read.
func linked(t *testing.T) (*Link, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	l := NewLink(near)
	l.Bound(bound)
	return l, far
}

func TestLinkEndsWhenThePeerIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, far := linked(t)
		began := time.Now()
		_, err := l.Read(make([]byte, 1))
		if took := time.Since(began); took != bound || !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "nothing was heard") {
			t.Fatalf("Read = %v after %v, want the end after %v", err, took, bound)
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the socket is not closed: %v", err)
		}
	})
}

func TestLinkLivesAsLongAsThePeerSaysSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, far := linked(t)
		go func() {
			for range 10 {
				time.Sleep(bound * 9 / 10)
				_, _ = far.Write([]byte("x"))
			}
		}()
		for i := range 10 {
			if _, err := l.Read(make([]byte, 1)); err != nil {
				t.Fatalf("read %d: %v", i, err)
			}
		}
	})
}

// S62: amqp091-go's reader waits for ever to hand on an answer that nobody asked for.
func TestLinkEndsWhenItsReaderStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, far := linked(t)
		go func() { _, _ = far.Write([]byte("ab")) }()
		if _, err := l.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		l.Gate.Set(amqp.Blocking{Active: true}) // so that the write alone would never end
		began := time.Now()
		if _, err := l.Write([]byte("x")); err == nil || time.Since(began) != bound*5/4 {
			t.Errorf("Write = %v after %v, want the end after %v", err, time.Since(began), bound*5/4)
		}
	})
}

func TestLinkEndsWhenThePeerTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := linked(t)
		began := time.Now()
		_, err := l.Write([]byte("x"))
		if took := time.Since(began); took != slower*bound || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Write = %v after %v, want the end after %v", err, took, slower*bound)
		}
	})
}

func TestSlowWriteMayTakeLongerThanTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, far := linked(t)
		const size = 20
		go func() {
			for range size {
				time.Sleep(slower * bound * 9 / 10)
				_, _ = far.Read(make([]byte, 1))
			}
		}()
		if n, err := l.Write(make([]byte, size)); n != size || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	})
}

func TestSlowWriteOfPartsMayTakeLongerThanTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, far := linked(t)
		a, b, c := "held back", "the body", "the end"
		got := make(chan string, 1)
		go func() {
			var read []byte
			for range len(a + b + c) {
				time.Sleep(slower * bound * 9 / 10)
				var one [1]byte
				_, _ = far.Read(one[:])
				read = append(read, one[0])
			}
			got <- string(read)
		}()
		if n, err := l.writeAll([]byte(a), []byte(b), []byte(c)); n != int64(len(a+b+c)) || err != nil {
			t.Fatalf("writeAll = %d, %v", n, err)
		}
		if read := <-got; read != a+b+c {
			t.Errorf("the peer got %q", read)
		}
		began := time.Now()
		if _, err := l.writeAll([]byte(a), []byte(b), []byte(c)); err == nil || time.Since(began) > slower*bound {
			t.Errorf("writeAll = %v after %v, want the end after %v", err, time.Since(began), slower*bound)
		}
	})
}

func TestWriteMayWaitWhileTheBrokerBlocksPublishing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, far := linked(t)
		l.Gate.Set(amqp.Blocking{Active: true, Reason: "low on memory"})
		go func() {
			time.Sleep(100 * bound)
			_, _ = io.ReadFull(far, make([]byte, 3))
		}()
		if n, err := l.Write([]byte("abc")); n != 3 || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		l.Gate.Set(amqp.Blocking{})
		began := time.Now()
		if _, err := l.Write([]byte("x")); err == nil || time.Since(began) > slower*bound {
			t.Errorf("Write = %v after %v: it is not bounded again", err, time.Since(began))
		}
	})
}

// amqp091-go's shutdown waits for locks that a stuck writer holds before it closes the socket.
func TestFailureToReadFreesAStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, far := linked(t)
		l.Gate.Set(amqp.Blocking{Active: true}) // so that the write alone would never end
		wrote := make(chan error, 1)
		go func() {
			_, err := l.Write([]byte("x"))
			wrote <- err
		}()
		synctest.Wait()
		began := time.Now()
		if _, err := l.Read(make([]byte, 1)); err == nil {
			t.Fatal("a silent peer is no error")
		}
		if err := <-wrote; err == nil || time.Since(began) > bound {
			t.Errorf("Write = %v after %v", err, time.Since(began))
		}
		_ = far
	})
}

func TestGateTellsAndWakes(t *testing.T) {
	var g Gate
	changed, err := g.Watch()
	if err != nil {
		t.Fatalf("the zero Gate is shut: %v", err)
	}
	g.Set(amqp.Blocking{Active: true, Reason: "low on disk"})
	<-changed
	if err := g.Err(); !errors.Is(err, amqperr.ErrBlocked) || !strings.Contains(err.Error(), "low on disk") {
		t.Errorf("Err = %v", err)
	}
	changed, _ = g.Watch()
	g.Set(amqp.Blocking{})
	<-changed
	if err := g.Err(); err != nil {
		t.Errorf("Err = %v after it opened", err)
	}
}

package broker

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

func TestRequestedCloseIsNotReportedAsLoss(t *testing.T) {
	for name, inMemory := range map[string]bool{"TCP": false, "in memory": true} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.InMemory, cfg.Addr = inMemory, "127.0.0.1:0"
			s := newStageWith(t, cfg)
			for range 100 {
				conn, err := s.dialWith(amqp.Config{})
				if !inMemory {
					conn, err = amqp.Dial("amqp://guest:guest@" + s.Addr())
				}
				s.must(err)
				closed := conn.NotifyClose(make(chan *amqp.Error, 1))
				s.must(conn.Close())
				if err := <-closed; err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// After connection.close-ok the broker keeps its end open until the client hangs up.
func TestBrokerWaitsForTheClientToHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		r := rawClient(t, s.Broker)
		_ = r.nc.SetDeadline(time.Time{})
		r.method(0, new(codec.ConnectionClose))
		r.expect(new(codec.ConnectionCloseOk))
		ended := make(chan error, 1)
		go func() {
			_, err := r.reader.Next()
			ended <- err
		}()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("hung up at once: %v", err)
		default:
		}
		began := time.Now()
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if d := time.Since(began); d != closeTimeout {
			t.Errorf("hung up after %v", d)
		}
	})
}

func TestExclusiveQueuesAreDeletedBeforeCloseOk(t *testing.T) {
	s := newStage(t)
	r := rawClient(t, s.Broker)
	r.method(1, &codec.QueueDeclare{Queue: "mine", Exclusive: true})
	r.expect(new(codec.QueueDeclareOk))
	r.method(0, new(codec.ConnectionClose))
	r.expect(new(codec.ConnectionCloseOk))
	if _, ok := s.Queue("/", "mine"); ok {
		t.Error("it is still there")
	}
}

func TestConcurrentStartAndStop(t *testing.T) {
	s := newStage(t)
	s.classic("kept", nil)
	var all sync.WaitGroup
	for _, act := range []func(){s.Kill, s.Stop, func() { _ = s.Start() }, func() { _ = s.Start() }} {
		all.Go(func() {
			for range 50 {
				act()
				if nc, err := s.Dial(); err == nil {
					_ = nc.Close()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * soon):
		t.Fatal("they hang")
	}
	s.must(s.Start())
	if _, ok := s.Queue("/", "kept"); !ok {
		t.Error("the queue is gone")
	}
}

// unread sends messages whose answers are as large and reads none, until the broker stops reading.
func unread(t *testing.T, r *rawConn) (sent int) {
	t.Helper()
	b := codec.AppendMethod(nil, 1, &codec.BasicPublish{Key: "nowhere", Mandatory: true})
	b = codec.AppendContent(b, 1, new(codec.Properties).Append(nil), make([]byte, 64<<10), 131072)
	_ = r.nc.SetWriteDeadline(time.Now().Add(time.Second))
	for sent < 16*maxUnsent {
		n, err := r.nc.Write(b)
		sent += n
		if err != nil {
			return sent
		}
	}
	t.Error("the broker takes all")
	return sent
}

func TestBrokerStopsReadingFromAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		r := rawClient(t, s.Broker)
		if sent, most := unread(t, r), maxUnsent+4*pipeSize; sent > most {
			t.Errorf("%d bytes were taken, want %d at most", sent, most)
		}
		_ = r.nc.SetDeadline(time.Time{})
		for range maxUnsent / (64 << 10) { // everything arrives once the client reads
			r.expect(new(codec.BasicReturn))
			r.read()
			r.read()
		}
	})
}

func TestClientThatDoesNotReadIsClosedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		r := rawClient(t, s.Broker)
		unread(t, r)
		began := time.Now()
		s.CloseConnections(nil, 320, "CONNECTION_FORCED - enough")
		ctx, cancel := context.WithTimeout(t.Context(), 2*closeTimeout)
		defer cancel()
		s.must(s.Await(ctx, func() bool { return len(s.Connections()) == 0 }))
		if d := time.Since(began); d > closeTimeout {
			t.Errorf("it took %v", d)
		}
	})
}

package broker

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestPipeBuffersAndCloses(t *testing.T) {
	a, b := pipe()
	write := func(nc net.Conn, s string) {
		t.Helper()
		if n, err := nc.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	write(a, "hello") // without a reader
	if err := a.(*end).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	write(b, "answer")
	got, err := io.ReadAll(b)
	if string(got) != "hello" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	buf := make([]byte, 10)
	if n, err := a.Read(buf); string(buf[:n]) != "answer" || err != nil {
		t.Errorf("%q %v", buf[:n], err)
	}
	if _, err := a.Write(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after CloseWrite: %v", err)
	}
	_ = a.Close()
	if _, err := a.Read(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if _, err := b.Write(buf); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write to who has closed: %v", err)
	}
	_ = b.Close()
}

func TestFullPipeBlocksItsWriter(t *testing.T) {
	a, b := pipe()
	written := make(chan int)
	go func() {
		n, _ := a.Write(make([]byte, pipeSize+1))
		written <- n
	}()
	select {
	case n := <-written:
		t.Fatalf("wrote %d", n)
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := b.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if n := next(t, written); n != pipeSize+1 {
		t.Errorf("wrote %d", n)
	}
	_ = a.Close()
	_ = b.Close()
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		buf := make([]byte, 2*pipeSize)
		began := time.Now()
		_ = a.SetDeadline(began.Add(time.Second))
		if _, err := a.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		var ne net.Error
		if n, err := a.Write(buf); n != 0 || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("wrote %d: %v", n, err)
		}
		go func() { // a new deadline also affects a wait in progress
			time.Sleep(time.Second)
			_ = b.SetReadDeadline(time.Now())
		}()
		if _, err := b.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_ = b.SetReadDeadline(time.Time{})
		_ = a.SetDeadline(time.Time{})
		go func() { time.Sleep(time.Second); reset(a) }()
		if _, err := b.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after a reset: %v", err)
		}
	})
}

package amqpkit

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// A peer plays RabbitMQ's side of connections that are opened, renewed and closed, over pipes, so that it lives in a
// bubble of testing/synctest. It closes a connection when the secret that it knows last expires.
type peer struct {
	expires func(secret string) time.Time // zero: never
	answer  time.Duration                 // how long the answer to update-secret takes

	mu      sync.Mutex
	logins  []string // user and password of each connection
	updates []string // secrets that came later
}

func (p *peer) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go p.serve(far)
	return near, nil
}

// The methods of the class connection that are used (AMQP 0-9-1, 1.4), as class and method id.
const (
	heartbeat        = 0 // none of them, nor of any class
	start, startOk   = 10<<16 | 10, 10<<16 | 11
	tune             = 10<<16 | 30
	open, openOk     = 10<<16 | 40, 10<<16 | 41
	closing, closeOk = 10<<16 | 50, 10<<16 | 51
	update, updateOk = 10<<16 | 70, 10<<16 | 71
)

func (p *peer) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	ended := make(chan struct{})
	defer close(ended)
	frames := make(chan []byte, 16) // kept while nobody reads, as TCP does; nil closes the connection
	go func() {
		for {
			select {
			case f := <-frames:
				if f == nil {
					_ = c.Close()
					return
				}
				_, _ = c.Write(f)
			case <-ended:
				return
			}
		}
	}()
	send := func(frame []byte) {
		select {
		case frames <- frame:
		case <-ended:
		}
	}

	expiry := time.AfterFunc(1<<63-1, func() {
		send(method(closing, "\x01\x40"+short("CONNECTION_FORCED - credential expired")+"\x00\x00\x00\x00"))
	})
	defer expiry.Stop()
	know := func(secret string) {
		if at := p.expires(secret); !at.IsZero() {
			expiry.Reset(time.Until(at))
		}
	}
	r := bufio.NewReader(c)
	_, _ = r.Discard(len("AMQP\x00\x00\x09\x01"))
	send(method(start, "\x00\x09"+long("")+long("PLAIN")+long("en_US")))
	for {
		id, args, err := receive(r)
		if err != nil {
			return
		}
		switch id {
		case startOk:
			_, args = cutLong(args) // the client's properties
			_, args = cutShort(args)
			response, _ := cutLong(args)
			user, password, _ := strings.Cut(strings.TrimPrefix(response, "\x00"), "\x00")
			p.mu.Lock()
			p.logins = append(p.logins, user+" "+password)
			p.mu.Unlock()
			know(password)
			send(method(tune, "\x00\x00\x00\x02\x00\x00\x00\x00"))
		case open:
			send(method(openOk, short("")))
		case update:
			secret, _ := cutLong(args)
			p.mu.Lock()
			p.updates = append(p.updates, secret)
			p.mu.Unlock()
			answer := time.AfterFunc(p.answer, func() {
				know(secret)
				send(method(updateOk, ""))
			})
			defer answer.Stop()
		case closing:
			send(method(closeOk, ""))
			send(nil)
		case heartbeat:
			send([]byte("\x08\x00\x00\x00\x00\x00\x00\xce"))
		}
	}
}

// method makes a method frame on channel 0.
func method(id uint32, args string) []byte {
	b := []byte{1, 0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(args)))
	b = binary.BigEndian.AppendUint32(b, id)
	return append(append(b, args...), 0xce)
}

// receive reads a frame. The id of a heartbeat is 0.
func receive(r io.Reader) (id uint32, args string, err error) {
	head := make([]byte, 7)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, "", err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
	if _, err := io.ReadFull(r, body); err != nil || head[0] != 1 {
		return 0, "", err
	}
	return binary.BigEndian.Uint32(body), string(body[4 : len(body)-1]), nil
}

func short(s string) string { return string(rune(len(s))) + s }

func long(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }

func cutShort(s string) (first, rest string) { n := 1 + int(s[0]); return s[1:n], s[n:] }

func cutLong(s string) (first, rest string) {
	n := 4 + int(binary.BigEndian.Uint32([]byte(s)))
	return s[4:n], s[n:]
}

package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// The stages of a handshake, named after the last step before the violation.
const (
	connected = iota // nothing
	greeted          // the protocol header
	loggedIn         // start-ok
	tuned            // tune-ok
	opened           // connection.open
	ready            // channel.open of channel 1
)

// A violation is a sequence of frames that the protocol forbids, or a boundary case that it allows. The client sends it at
// a stage of its handshake, continues the handshake, and closes the connection.
type violation struct {
	what  string
	stage int
	send  [][]byte
	// then is sent after the first answer to send. If it is nil, the client does not wait for an answer.
	then [][]byte
}

// violate returns a scenario that sends each violation on a separate connection. They run concurrently, because RabbitMQ
// waits three seconds before it closes the connection of a client that has not logged in.
func violate(name string, list []violation) Scenario {
	return Scenario{name, func(s *Script) {
		lines := make([]string, len(list))
		var all sync.WaitGroup
		slots := make(chan struct{}, 40)
		for i, v := range list {
			all.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				lines[i] = v.outcome(s)
			})
		}
		all.Wait()
		for i, v := range list {
			s.Note("%s: %s", v.what, lines[i])
		}
	}}
}

// outcome returns the broker's answers, except the regular answers to the handshake.
func (v violation) outcome(s *Script) string {
	r, err := s.connect()
	if err != nil {
		return err.Error()
	}
	defer r.nc.Close()
	steps := handshakeSteps(r.url, nil)
	answers := slices.Clone(handshakeAnswers)
	for stage, b := range steps[:v.stage] {
		r.write(b)
		if stage == loggedIn { // tune-ok has no answer
			continue
		}
		if f := r.next(); f.name != answers[0] {
			return "cannot connect: " + f.name + r.ends
		}
		answers = answers[1:]
	}
	var got []string
	read := func() (more bool) {
		f := r.next()
		switch {
		case f.name == "":
			got = append(got, r.ends)
		case len(answers) > 0 && f.name == answers[0]:
			answers = answers[1:]
		case f.name != "connection.close-ok":
			got = append(got, f.String())
		}
		return f.name != "" && f.name != "connection.close" && f.name != "connection.close-ok"
	}
	r.write(v.send...)
	more := true
	for v.then != nil && more && len(got) == 0 {
		more = read()
	}
	rest := steps[v.stage:]
	if v.stage == connected { // the violation replaces the protocol header
		rest = nil
	}
	r.write(slices.Concat(v.then, rest, [][]byte{closingFrame()})...)
	for more {
		more = read()
	}
	if len(got) == 0 {
		return "no answer"
	}
	return strings.Join(got, ", ")
}

// beyond encodes the start of a frame without its payload.
func beyond(kind byte, channel uint16, size uint32) []byte {
	return []byte{kind, byte(channel >> 8), byte(channel), byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}
}

// withEnd returns a copy of a frame with another frame-end octet.
func withEnd(b []byte, end byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] = end
	return b
}

func payload(text string) []byte { return []byte(text) }

func headerOf(class, weight uint16, size uint64, properties ...any) []byte {
	return frame(headerFrame, 1, pack(pack(nil, class, weight, size), properties...))
}

func forEach[T any](values []T, make func(T) violation) []violation {
	var list []violation
	for _, v := range values {
		list = append(list, make(v))
	}
	return list
}

var (
	unroutable = publish(1, "", "nobody", false)
	noContent  = contentHeader(1, 0, uint16(0))
	oneByte    = contentHeader(1, 1, uint16(0))
	body1      = frame(bodyFrame, 1, payload("x"))
)

func on(channel uint16) string {
	switch channel {
	case 1:
		return "on channel 1"
	case 0:
		return "on channel 0"
	}
	return fmt.Sprintf("on channel %d (not open)", channel)
}

package broker

import (
	"errors"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// The states of a connection that errors name.
const (
	stateStarting = "starting"
	stateTuning   = "tuning"
	stateOpening  = "opening"
	stateRunning  = "running"
)

// method0 reads a frame of channel 0, nil for a heartbeat. The error says what the client is told in that state: a *failure,
// or nothing at all.
func method0(f codec.Frame, state string) (codec.Method, error) {
	m, err := readMethod0(f, state)
	var told *failure
	if (state == stateStarting || state == stateTuning) && errors.As(err, &told) {
		err = errAbandoned // RabbitMQ tells only whom it trusts
	}
	return m, err
}

func readMethod0(f codec.Frame, state string) (codec.Method, error) {
	switch {
	case f.Malformed():
		return nil, unknownFrame(f)
	case f.Type == codec.FrameHeartbeat:
		return nil, nil
	case f.Type != codec.FrameMethod:
		return nil, unexpectedFrameOf(f)
	}
	id, m, err := codec.Parse(f.Payload)
	switch {
	case m == nil:
		return nil, errAbandoned
	case errors.Is(err, codec.ErrUTF8):
		return nil, &failure{id, errUTF8()}
	case err == nil:
		return m, nil
	case state == stateRunning:
		return nil, &failure{0, raise(internalError, "")}
	}
	return nil, errAbandoned
}

// unexpectedMethod0 is a method of channel 0 that has no place in a state.
func unexpectedMethod0(m codec.Method, state string) *failure {
	return &failure{m.ID(), raise(channelError, "unexpected method in connection state %s", state)}
}

// unknownFrame is a frame that is of no type, or malformed.
func unknownFrame(f codec.Frame) *failure {
	return &failure{0, &exception{code: frameError, text: codec.Snippet(f) + ": unknown_frame"}}
}

// unexpectedFrameOf is a frame that has no place on its channel.
func unexpectedFrameOf(f codec.Frame) *failure {
	return &failure{0, &exception{code: unexpectedFrame, text: codec.Snippet(f)}}
}

func errUTF8() *exception { return raise(frameError, "Malformed UTF-8 in shortstr") }

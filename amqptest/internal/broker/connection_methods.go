package broker

import (
	"errors"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// RabbitMQ's connection states that appear in errors.
const (
	stateStarting = "starting"
	stateTuning   = "tuning"
	stateOpening  = "opening"
	stateRunning  = "running"
)

// method0 decodes a frame on channel 0, nil for a heartbeat. A *failure is sent as connection.close, other errors close
// the socket without a reply code.
func method0(f codec.Frame, state string) (codec.Method, error) {
	m, err := readMethod0(f, state)
	var told *failure
	if (state == stateStarting || state == stateTuning) && errors.As(err, &told) {
		err = errHangUp // RabbitMQ sends no reply code before tune-ok
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
		return nil, errHangUp
	case errors.Is(err, codec.ErrUTF8):
		return nil, &failure{id, errUTF8()}
	case err == nil:
		return m, nil
	case state == stateRunning:
		return nil, &failure{0, raise(internalError, "")}
	}
	return nil, errHangUp
}

// unexpectedMethod0 reports a method that is not allowed in this state.
func unexpectedMethod0(m codec.Method, state string) *failure {
	return &failure{m.ID(), raise(channelError, "unexpected method in connection state %s", state)}
}

// unknownFrame reports a frame of unknown type or a malformed one.
func unknownFrame(f codec.Frame) *failure {
	return &failure{0, &exception{code: frameError, text: codec.Snippet(f) + ": unknown_frame"}}
}

// unexpectedFrameOf reports a frame that is not allowed on its channel.
func unexpectedFrameOf(f codec.Frame) *failure {
	return &failure{0, &exception{code: unexpectedFrame, text: codec.Snippet(f)}}
}

func errUTF8() *exception { return raise(frameError, "Malformed UTF-8 in shortstr") }

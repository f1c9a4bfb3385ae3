package amqptest

import (
	"encoding/binary"
	"slices"
)

// methodID is the class and the method id of a method frame.
type methodID uint32

// The methods that a proxy looks at.
const (
	connectionStartOk   methodID = 10<<16 | 11
	connectionOpenOk    methodID = 10<<16 | 41
	connectionClose     methodID = 10<<16 | 50
	connectionBlocked   methodID = 10<<16 | 60
	connectionUnblocked methodID = 10<<16 | 61
	channelOpen         methodID = 20<<16 | 10
	channelClose        methodID = 20<<16 | 40
	basicConsume        methodID = 60<<16 | 20
	basicCancel         methodID = 60<<16 | 30
	basicPublish        methodID = 60<<16 | 40
	basicReturn         methodID = 60<<16 | 50
	basicDeliver        methodID = 60<<16 | 60
	basicGet            methodID = 60<<16 | 70
	basicGetOk          methodID = 60<<16 | 71
	basicAck            methodID = 60<<16 | 80
	basicReject         methodID = 60<<16 | 90
	basicNack           methodID = 60<<16 | 120
	confirmSelect       methodID = 85<<16 | 10
)

// Heartbeat returns a heartbeat.
func Heartbeat() Frame { return Frame{Type: FrameHeartbeat} }

// ConnectionBlocked is how a broker says that it takes no publishes for now.
func ConnectionBlocked(reason string) Frame { return MethodFrame(0, 10, 60, reason) }

// ConnectionUnblocked is how it says that it takes them again.
func ConnectionUnblocked() Frame { return MethodFrame(0, 10, 61) }

// ConnectionClose ends a connection with a reply code, such as 320 (CONNECTION_FORCED).
func ConnectionClose(code uint16, text string) Frame {
	return MethodFrame(0, 10, 50, code, text, uint16(0), uint16(0))
}

// ChannelClose ends a channel with a reply code, such as 406 (PRECONDITION_FAILED).
func ChannelClose(channel, code uint16, text string) Frame {
	return MethodFrame(channel, 20, 40, code, text, uint16(0), uint16(0))
}

// BasicAck is a broker's confirm or a client's acknowledgement.
func BasicAck(channel uint16, tag uint64, multiple bool) Frame {
	return MethodFrame(channel, 60, 80, tag, multiple)
}

// BasicNack is a broker's refusal of a message, or a client's of a delivery.
func BasicNack(channel uint16, tag uint64, multiple, requeue bool) Frame {
	return MethodFrame(channel, 60, 120, tag, bits(multiple, requeue))
}

// BasicCancel tells a client that its consumer has ended, as when the queue was deleted.
func BasicCancel(channel uint16, consumerTag string) Frame {
	return MethodFrame(channel, 60, 30, consumerTag, true)
}

// BasicDeliver returns the frames of a delivery to a consumer, for one call of [Faults.Inject] or [Request.Reply]. It panics if
// the headers or properties of m cannot be encoded; see [Broker.Publish].
func BasicDeliver(channel uint16, consumerTag string, tag uint64, m Message) []Frame {
	p, err := properties(m)
	if err != nil {
		panic(err)
	}
	header := binary.BigEndian.AppendUint64([]byte{0, 60, 0, 0}, uint64(len(m.Body)))
	frames := []Frame{
		MethodFrame(channel, 60, 60, consumerTag, tag, m.Redelivered, m.Exchange, m.Key),
		{Type: FrameHeader, Channel: channel, Payload: p.Append(header)},
	}
	for part := range slices.Chunk(m.Body, 4096-frameHeader-1) { // every peer accepts frames of this size
		frames = append(frames, Frame{Type: FrameBody, Channel: channel, Payload: part})
	}
	return frames
}

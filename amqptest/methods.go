package amqptest

import (
	"encoding/binary"
	"slices"
)

// methodID is the class id and the method id of a method frame.
type methodID uint32

// The methods that the proxy evaluates.
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

// Heartbeat returns a heartbeat frame.
func Heartbeat() Frame { return Frame{Type: FrameHeartbeat} }

// ConnectionBlocked returns connection.blocked, with which a broker reports that it stops reading from publishers.
func ConnectionBlocked(reason string) Frame { return MethodFrame(0, 10, 60, reason) }

// ConnectionUnblocked returns connection.unblocked, which ends connection.blocked.
func ConnectionUnblocked() Frame { return MethodFrame(0, 10, 61) }

// ConnectionClose returns connection.close with a reply code, for example 320 (CONNECTION_FORCED).
func ConnectionClose(code uint16, text string) Frame {
	return MethodFrame(0, 10, 50, code, text, uint16(0), uint16(0))
}

// ChannelClose returns channel.close with a reply code, for example 406 (PRECONDITION_FAILED).
func ChannelClose(channel, code uint16, text string) Frame {
	return MethodFrame(channel, 20, 40, code, text, uint16(0), uint16(0))
}

// BasicAck returns basic.ack: a confirm from a broker or an acknowledgement from a client.
func BasicAck(channel uint16, tag uint64, multiple bool) Frame {
	return MethodFrame(channel, 60, 80, tag, multiple)
}

// BasicNack returns basic.nack: a negative confirm from a broker or a rejected delivery from a client.
func BasicNack(channel uint16, tag uint64, multiple, requeue bool) Frame {
	return MethodFrame(channel, 60, 120, tag, bits(multiple, requeue))
}

// BasicCancel returns basic.cancel, by which a broker cancels a consumer, for example because the queue was deleted.
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

package kit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"
)

// This file is a minimal AMQP 1.0 sender, for messages that AMQP 0-9-1 cannot carry. RabbitMQ 4 speaks the protocol natively. See
// OASIS AMQP 1.0, parts 1 to 3.

// Values of application properties that RabbitMQ cannot translate into AMQP 0-9-1 headers.
var (
	UUIDProperty = append([]byte{0x98}, make([]byte, 16)...)
	CharProperty = []byte{0x73, 0, 0, 0, 'x'}
)

// described encodes a described list: a performative, or a section of a message.
func described(code byte, fields ...[]byte) []byte {
	return slices.Concat([]byte{0x00, 0x53, code}, Compound(0xd0, fields...))
}

// Compound encodes a list, a map or an array with the given constructor.
func Compound(constructor byte, fields ...[]byte) []byte {
	all := slices.Concat(fields...)
	b := binary.BigEndian.AppendUint32([]byte{constructor}, uint32(4+len(all)))
	return append(binary.BigEndian.AppendUint32(b, uint32(len(fields))), all...)
}

// String10 encodes a string of at most 255 bytes.
func String10(s string) []byte { return append([]byte{0xa1, byte(len(s))}, s...) }

func binary10(b []byte) []byte { return append([]byte{0xa0, byte(len(b))}, b...) }

func uint10(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0x70}, n) }

// PublishAMQP10 sends a durable message to a queue and returns after the broker has accepted it. property is the encoded value
// of an application property.
func PublishAMQP10(t *testing.T, brokerURL, queue, id string, property []byte) {
	t.Helper()
	if err := send10(brokerURL, queue, id, property); err != nil {
		t.Fatalf("AMQP 1.0: %v", err)
	}
}

func send10(brokerURL, queue, id string, property []byte) error {
	u, err := url.Parse(brokerURL)
	if err != nil {
		return err
	}
	password, _ := u.User.Password()
	nc, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	write := func(kind byte, body ...[]byte) {
		all := slices.Concat(body...)
		b := binary.BigEndian.AppendUint32(nil, uint32(8+len(all)))
		_, _ = nc.Write(slices.Concat(b, []byte{2, kind, 0, 0}, all))
	}
	// await reads frames up to one with the wanted performative.
	await := func(want byte) ([]byte, error) {
		for {
			head := make([]byte, 8)
			if _, err := io.ReadFull(nc, head); err != nil {
				return nil, fmt.Errorf("performative %#x: %w", want, err)
			}
			body := make([]byte, binary.BigEndian.Uint32(head)-8)
			if _, err := io.ReadFull(nc, body); err != nil {
				return nil, err
			}
			switch {
			case len(body) < 3:
			case body[2] == want:
				return body, nil
			case body[2] == 0x16 || body[2] == 0x17 || body[2] == 0x18: // detach, end, close
				return nil, fmt.Errorf("the broker refused: %q", body)
			}
		}
	}
	header := func(protocol byte) error {
		b := []byte{'A', 'M', 'Q', 'P', protocol, 1, 0, 0}
		_, _ = nc.Write(b)
		got := make([]byte, 8)
		if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, b) {
			return fmt.Errorf("protocol header %q, %w", got, err)
		}
		return nil
	}
	if err := header(3); err != nil {
		return err
	}
	write(1, described(0x41, append([]byte{0xa3, 5}, "PLAIN"...), binary10([]byte("\x00"+u.User.Username()+"\x00"+password))))
	if _, err := await(0x44); err != nil { // sasl-outcome
		return err
	}
	if err := header(0); err != nil {
		return err
	}
	null, no := []byte{0x40}, []byte{0x42}
	write(0, described(0x10, String10("test")))
	write(0, described(0x11, null, uint10(0), uint10(100), uint10(100)))
	write(0, described(0x12, String10("sender"), uint10(0), no, []byte{0x50, 0}, []byte{0x50, 0},
		described(0x28, String10("test")), described(0x29, String10("/queues/"+queue)), null, null, uint10(0)))
	if _, err := await(0x13); err != nil { // flow: credit to send
		return err
	}
	write(0, described(0x14, uint10(0), uint10(0), binary10([]byte{1}), uint10(0), no),
		described(0x70, []byte{0x41}),
		described(0x73, String10(id)),
		[]byte{0x00, 0x53, 0x74}, Compound(0xd1, String10("p"), property),
		[]byte{0x00, 0x53, 0x75}, binary10([]byte(id)))
	got, err := await(0x15) // disposition
	if err == nil && !bytes.Contains(got, []byte{0x00, 0x53, 0x24}) {
		err = fmt.Errorf("not accepted: %q", got)
	}
	write(0, described(0x18))
	return err
}

package wire

// frames follows the boundaries of the frames that are written on a connection.
type frames struct {
	header [frameHeader]byte
	have   int // bytes of the header that were written
	rest   int // bytes of the current frame that follow its header and were not written, its end included
}

// protocolHeader is the number of bytes before the first frame (AMQP 0-9-1, 4.2.2).
const protocolHeader = 8

// write records b. It reports whether b ends with a payload, so that only the mark at the end of its frame is missing.
func (f *frames) write(b []byte) bool {
	for len(b) > 0 {
		if f.rest > 0 {
			n := min(f.rest, len(b))
			f.rest -= n
			b = b[n:]
			continue
		}
		n := copy(f.header[f.have:], b)
		f.have += n
		b = b[n:]
		if f.have == frameHeader {
			f.have, f.rest = 0, payloadSize(f.header[:])+frameEnd
		}
	}
	return f.rest == frameEnd
}

package broker

// full reports whether a message must be rejected. A quorum queue rejects once it exceeds its limit, until it is well
// below it. A classic queue never exceeds its limit, even if a consumer could receive the message at once.
func (q *queue) full(m *message) bool {
	switch {
	case q.overflow == dropHead:
		return false
	case q.quorum:
		return q.rejecting
	}
	return q.maxLength >= 0 && int64(q.ready) >= q.maxLength ||
		q.maxBytes >= 0 && int64(q.bytes+q.size(m)) > q.maxBytes
}

func (q *queue) over() bool {
	return q.maxLength >= 0 && int64(q.ready+len(q.delayed)) > q.maxLength || q.maxBytes >= 0 && int64(q.bytes) > q.maxBytes
}

// below reports whether a quorum queue accepts messages again.
func (q *queue) below() bool {
	return (q.maxLength < 0 || int64(q.ready+len(q.delayed)) <= q.maxLength*8/10) &&
		(q.maxBytes < 0 || int64(q.bytes) <= q.maxBytes*8/10)
}

// hasRoom reports whether a queue that rejected a message may accept one now.
func (q *queue) hasRoom() bool {
	if q.quorum {
		return !q.rejecting
	}
	return (q.maxLength < 0 || int64(q.ready) < q.maxLength) && (q.maxBytes < 0 || int64(q.bytes) < q.maxBytes)
}

func (q *queue) count(e *entry, n int) {
	q.ready += n
	q.bytes += n * q.size(e.message)
}

// size returns the size that counts against the limit. A quorum queue includes the properties.
func (q *queue) size(m *message) int {
	if q.quorum {
		return len(m.raw) + len(m.body)
	}
	return len(m.body)
}

package broker

// full tells whether a message is to be rejected. A quorum queue does that once it is over its limit, until it is well
// below; a classic one keeps to it, whether or not a consumer would take the message at once.
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

// below is when a quorum queue accepts again.
func (q *queue) below() bool {
	return (q.maxLength < 0 || int64(q.ready+len(q.delayed)) <= q.maxLength*8/10) &&
		(q.maxBytes < 0 || int64(q.bytes) <= q.maxBytes*8/10)
}

// hasRoom tells whether a queue that refused a message may take one now.
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

// size is what a message counts: in a quorum queue its properties count, too.
func (q *queue) size(m *message) int {
	if q.quorum {
		return len(m.raw) + len(m.body)
	}
	return len(m.body)
}

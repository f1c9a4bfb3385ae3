package producer

// A list links receipts in order.
type list struct{ first, last *Receipt }

func (l *list) pushBack(r *Receipt) {
	r.in, r.prev, r.next = l, l.last, nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
}

func (l *list) pushFront(r *Receipt) {
	r.in, r.prev, r.next = l, nil, l.first
	if l.first == nil {
		l.last = r
	} else {
		l.first.prev = r
	}
	l.first = r
}

// all returns the receipts in their order.
func (l *list) all() (rs []*Receipt) {
	for r := l.first; r != nil; r = r.next {
		rs = append(rs, r)
	}
	return rs
}

// unlink takes r out of the list that it is in.
func (r *Receipt) unlink() {
	l := r.in
	if r.prev == nil {
		l.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.in, r.prev, r.next = nil, nil, nil
}

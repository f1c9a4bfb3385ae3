package topology

import (
	"fmt"
	"strings"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// deadLetterRoutes holds where dead letters go.
type deadLetterRoutes struct {
	l        *linter
	literal  map[string]map[string][]int // bindings of an exchange by their key, if it has no wildcards for the exchange
	patterns map[string][]int            // the other bindings of an exchange
	reached  map[string]*reach           // by exchange and routing key
	steps    int                         // left before routes count as unknown

	fed   map[int]bool // queues that may receive dead letters
	feeds map[int]feed // queues that may receive messages that died of a delivery limit
}

// A feed is the queue with the highest delivery limit from which such messages come.
type feed struct {
	from  int
	limit int64
}

// A reach is a set of queues that messages may reach.
type reach struct {
	queues  []int
	unknown bool // or others, outside of the topology
}

const maxRouteSteps = 1_000_000

func newDeadLetterRoutes(l *linter) *deadLetterRoutes {
	d := &deadLetterRoutes{
		l: l, literal: map[string]map[string][]int{}, patterns: map[string][]int{}, reached: map[string]*reach{}, steps: maxRouteSteps,
		fed: map[int]bool{}, feeds: map[int]feed{},
	}
	for i, b := range l.Bindings {
		if kind := l.kind(b.Source); kind == Direct || kind == Topic && isLiteral(b.Key) {
			if d.literal[b.Source] == nil {
				d.literal[b.Source] = map[string][]int{}
			}
			d.literal[b.Source][b.Key] = append(d.literal[b.Source][b.Key], i)
		} else {
			d.patterns[b.Source] = append(d.patterns[b.Source], i)
		}
	}
	d.follow()
	return d
}

// isLiteral reports whether a topic key has no wildcards.
func isLiteral(key string) bool {
	for word := range strings.SplitSeq(key, ".") {
		if word == "*" || word == "#" {
			return false
		}
	}
	return true
}

// follow finds the queues that dead letters reach.
func (d *deadLetterRoutes) follow() {
	highest := map[*reach]feed{}
	for i := range d.l.Queues {
		if !d.l.queues[i].follows {
			continue
		}
		limit, _, limited := d.l.limit(i)
		limited = limited && !d.l.waits(i)
		for _, key := range d.keys(i) {
			r := d.reach(d.l.queues[i].exchange, key)
			if known, ok := highest[r]; !ok || limited && limit > known.limit {
				highest[r] = feed{i, -1}
				if limited {
					highest[r] = feed{i, limit}
				}
			}
		}
	}
	for r, f := range highest {
		for _, q := range r.queues {
			d.fed[q] = true
			known, ok := d.feeds[q]
			if better := f.limit > known.limit || f.limit == known.limit && f.from < known.from; f.limit >= 0 && q != f.from && (!ok || better) {
				d.feeds[q] = f
			}
		}
	}
}

// keys returns the routing keys with which dead letters leave the queue i, as far as they are known. nil stands for unknown ones.
func (d *deadLetterRoutes) keys(i int) (keys []*string) {
	if key := d.l.queues[i].key; key != nil {
		return []*string{key}
	}
	name := d.l.Queues[i].Name
	bindings := d.l.into[name]
	if len(bindings) == 0 {
		return []*string{&name} // as the default exchange routes, for publishers and for dead letters
	}
	unknown := false
	for _, b := range bindings {
		switch b := &d.l.Bindings[b]; {
		case d.l.kind(b.Source) == Direct, d.l.kind(b.Source) == Topic && isLiteral(b.Key):
			keys = append(keys, &b.Key)
		default:
			unknown = true
		}
	}
	if unknown {
		keys = append(keys, nil)
	}
	return keys
}

// reach returns the queues that messages with a routing key may reach from an exchange. nil stands for an unknown key.
func (d *deadLetterRoutes) reach(exchange string, key *string) *reach {
	id := exchange + "\x00"
	if key != nil {
		id += "=" + *key
	}
	r, ok := d.reached[id]
	if !ok {
		r = &reach{}
		d.reached[id] = r
		d.walk(r, exchange, key, map[string]bool{}, map[int]bool{})
	}
	return r
}

func (d *deadLetterRoutes) walk(r *reach, exchange string, key *string, seen map[string]bool, queues map[int]bool) {
	add := func(name string) {
		i, ok := d.l.names[name]
		r.unknown = r.unknown || !ok
		if ok && !queues[i] {
			queues[i] = true
			r.queues = append(r.queues, i)
		}
	}
	if exchange == "" {
		if key == nil {
			r.unknown = true
		} else if _, ok := d.l.names[*key]; ok {
			add(*key)
		}
		return
	}
	if seen[exchange] {
		return
	}
	seen[exchange] = true
	place, own := d.l.exchanges[exchange]
	r.unknown = r.unknown || !own // it may have more bindings
	kind := d.l.kind(exchange)
	matched := false
	take := func(bindings []int) {
		for _, i := range bindings {
			if d.steps--; d.steps < 0 {
				r.unknown = true
				return
			}
			b := d.l.Bindings[i]
			if !kind.mayRoute(b, facts{key: key}) {
				continue
			}
			matched = true
			if b.Queue != "" {
				add(b.Queue)
			} else {
				d.walk(r, b.Exchange, key, seen, queues)
			}
		}
	}
	if key != nil && (kind == Direct || kind == Topic) {
		take(d.literal[exchange][*key])
		take(d.patterns[exchange])
	} else {
		take(d.l.from[exchange])
	}
	certain := matched && (kind == Fanout || key != nil && (kind == Direct || kind == Topic))
	if own && d.l.alternates[place] != "" && !certain {
		d.walk(r, d.l.alternates[place], key, seen, queues)
	}
}

// unrouted reports queues whose dead letters match no binding of their dead-letter exchange. The other rules report an
// exchange or a queue that is not in the topology.
func (l *linter) unrouted() {
	for i, q := range l.Queues {
		d := l.queues[i]
		if !d.follows || d.exchange == "" && d.key != nil {
			continue
		}
		consequence := "Unless they are bound elsewhere, RabbitMQ drops these dead letters"
		if l.args[i]["x-dead-letter-strategy"] == AtLeastOnce {
			consequence = "Unless they are bound elsewhere, the queue keeps these dead letters, where no consumer sees them, and counts them as its own"
		}
		for _, key := range l.deadLetter.keys(i) {
			r := l.deadLetter.reach(d.exchange, key)
			if len(r.queues) > 0 || r.unknown {
				continue
			}
			problem, fix := "is exchange "+validate.Quote(d.exchange)+", which has no bindings", "add a Binding with Source: "+validate.Quote(d.exchange)
			switch {
			case d.exchange == "":
				problem = fmt.Sprintf("is the default exchange, and no queue has the name %s, which is the routing key of messages that reach this queue", validate.Quote(*key))
				fix = "set DeadLetter.RoutingKey to the name of a queue"
			case key != nil && len(l.from[d.exchange]) > 0:
				problem = fmt.Sprintf("is exchange %s, and none of its bindings matches the routing key %s", validate.Quote(d.exchange), validate.Quote(*key))
				fix += " that matches it, or set DeadLetter.RoutingKey"
			}
			l.report(l.queue(i), q.deadLetterField(), problem, consequence, fix)
			break
		}
	}
}

func (q Queue) deadLetterField() string {
	if q.DeadLetter != nil {
		return ".DeadLetter.Exchange"
	}
	return raw("x-dead-letter-exchange")
}

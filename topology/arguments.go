package topology

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// An argument is set by a typed field.
type argument struct {
	field, key string
	value      any
}

// A form is the kind of value that RabbitMQ expects for an argument. It refuses some other values and ignores the rest.
type form string

const (
	number form = "a whole number"
	text   form = "a string"
	flag   form = "a bool"
)

func (f form) fits(v any) bool {
	switch v.(type) {
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return f == number
	case string:
		return f == text
	case bool:
		return f == flag
	}
	return false
}

// integer returns a whole number of any type that AMQP carries.
func integer(v any) (int64, bool) {
	switch r := reflect.ValueOf(v); {
	case r.CanInt():
		return r.Int(), true
	case r.CanUint():
		return int64(r.Uint()), true
	}
	return 0, false
}

// known describes an argument: its form, and the queue types on which RabbitMQ accepts it.
type known struct {
	form form
	on   []QueueType
}

var (
	anyQueue = []QueueType{Quorum, Classic, Stream}
	messages = []QueueType{Quorum, Classic} // the types that deliver each message once
	quorum   = []QueueType{Quorum}
	classic  = []QueueType{Classic}
	stream   = []QueueType{Stream}
)

// queueArguments are the arguments of RabbitMQ 4.0 to 4.3.
var queueArguments = map[string]known{
	"x-queue-type":           {text, anyQueue},
	"x-max-length-bytes":     {number, anyQueue},
	"x-queue-leader-locator": {text, anyQueue},
	"x-consumer-timeout":     {number, anyQueue}, // 4.3 accepts it on quorum queues only; on other types it reports an error

	"x-message-ttl":             {number, messages},
	"x-expires":                 {number, messages},
	"x-max-length":              {number, messages},
	"x-overflow":                {text, messages},
	"x-dead-letter-exchange":    {text, messages},
	"x-dead-letter-routing-key": {text, messages},
	"x-single-active-consumer":  {flag, messages},

	"x-delivery-limit":                {number, quorum},
	"x-dead-letter-strategy":          {text, quorum},
	"x-quorum-initial-group-size":     {number, quorum},
	"x-quorum-target-group-size":      {number, quorum},
	"x-max-in-memory-length":          {number, quorum},
	"x-max-in-memory-bytes":           {number, quorum},
	"x-delayed-retry-type":            {text, quorum},
	"x-delayed-retry-min":             {number, quorum},
	"x-delayed-retry-max":             {number, quorum},
	"x-consumer-disconnected-timeout": {number, quorum},

	"x-max-priority":  {number, classic},
	"x-queue-mode":    {text, classic},
	"x-queue-version": {number, classic},

	"x-max-age":                       {text, stream},
	"x-stream-max-segment-size-bytes": {number, stream},
	"x-stream-filter-size-bytes":      {number, stream},
	"x-initial-cluster-size":          {number, stream},

	// RabbitMQ 4.3 closes the connection on it. LeaderLocator replaces it.
	"x-queue-master-locator": {text, nil},
}

// exchangeArguments are the arguments of the exchange types of AMQP 0-9-1, of RabbitMQ 4.3, of the plugins that come
// with it, and of the delayed message plugin. Other types are unchecked.
var exchangeArguments = map[ExchangeType]map[string]known{
	Direct: withAlternate(nil), Fanout: withAlternate(nil), Topic: withAlternate(nil), Headers: withAlternate(nil),
	"x-modulus-hash": withAlternate(nil), "x-local-random": withAlternate(nil), "x-random": withAlternate(nil),
	"x-consistent-hash": withAlternate(map[string]known{"hash-header": {text, nil}, "hash-property": {text, nil}}),
	"x-recent-history": withAlternate(map[string]known{
		"x-recent-history-length": {number, nil}, "x-recent-history-no-store": {flag, nil},
	}),
	"x-delayed-message": withAlternate(map[string]known{"x-delayed-type": {text, nil}}),
}

func withAlternate(arguments map[string]known) map[string]known {
	all := map[string]known{"alternate-exchange": {text, nil}}
	maps.Copy(all, arguments)
	return all
}

// checkArguments checks Arguments. on is the type of the queue, or empty for an exchange.
func checkArguments(f *faults, args amqp.Table, arguments map[string]known, on QueueType, allowUnknown bool) {
	for _, key := range slices.Sorted(maps.Keys(args)) {
		field, v := raw(key), args[key]
		k, ok := arguments[key]
		if !ok {
			near := validate.Similar(key, slices.Collect(maps.Keys(arguments)))
			switch {
			case allowUnknown:
			case near != "":
				f.add(field, "RabbitMQ does not know this argument and would ignore it", fmt.Sprintf("did you mean %q?", near))
			case strings.HasPrefix(key, "x-"):
				f.add(field, "amqpkit does not know this argument, and RabbitMQ ignores unknown arguments",
					"remove it, or set AllowUnknownArguments to send it")
			}
			continue
		}
		if !k.form.fits(v) {
			f.add(field, fmt.Sprintf("is a %T, and RabbitMQ expects %s", v, k.form), "convert it")
		}
		if on != "" {
			f.foreign(field, key, k.on, on)
		}
	}
}

// foreign reports an argument that RabbitMQ refuses on a queue of type on.
func (f *faults) foreign(field, key string, acceptedBy []QueueType, on QueueType) {
	if slices.Contains(acceptedBy, on) || !slices.Contains(anyQueue, on) {
		return
	}
	fix := "leave it out"
	switch {
	case key == "x-max-priority" && on == Quorum:
		fix = "leave it out, because a quorum queue has priorities without it (32 since RabbitMQ 4.3, two before), or set Type: topology.Classic"
	case len(acceptedBy) > 0:
		fix += ", or make it a " + joined(acceptedBy) + " queue"
	}
	f.add(field, fmt.Sprintf("RabbitMQ refuses %s on a %s queue", key, on), fix)
}

// both reports an argument that a typed field sets too.
func (f *faults) both(key, field string) {
	f.add(raw(key), "is already set by "+field, "remove one of them")
}

// differing returns the attributes in which RabbitMQ would find a difference, in alphabetical order.
func differing(a, b amqp.Table) (keys []string) {
	for key, v := range a {
		if w, ok := b[key]; !ok || !same(v, w) {
			keys = append(keys, key)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// same reports whether two values are equal for RabbitMQ, which ignores the size of integers.
func same(a, b any) bool { return reflect.DeepEqual(normal(a), normal(b)) }

// normal returns a value as the management API shows it: without the size of numbers, and with strings for bytes.
func normal(v any) any {
	w := normalizer{left: validate.MaxEntries}
	return w.value(v, 0)
}

// A normalizer bounds the work of normal. Tables beyond the limits of [Topology.Validate], such as a table that contains
// itself, are cut off.
type normalizer struct {
	left int // number of entries
}

func (w *normalizer) value(v any, depth int) any {
	if n, ok := integer(v); ok {
		return n
	}
	switch v := v.(type) {
	case nil:
		return "undefined"
	case float32:
		return float64(v)
	case []byte:
		return readable(string(v))
	case string:
		return readable(v)
	case time.Time:
		return v.Unix()
	case amqp.Decimal:
		f, _ := strconv.ParseFloat(fmt.Sprintf("%d.%d", v.Scale, v.Value), 64)
		return f
	case amqp.Table:
		return w.value(map[string]any(v), depth)
	case map[string]any:
		all := map[string]any{}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if !w.enter(depth) {
				break
			}
			all[key] = w.value(v[key], depth+1)
		}
		return all
	case []any:
		all := []any{}
		for _, entry := range v {
			if !w.enter(depth) {
				break
			}
			all = append(all, w.value(entry, depth+1))
		}
		return all
	}
	return v
}

// enter reports whether another entry at this depth is within the limits.
func (w *normalizer) enter(depth int) bool {
	w.left--
	return w.left >= 0 && depth <= validate.MaxDepth
}

// readable replaces a string that is not UTF-8 by RabbitMQ's text for it, which has lines of 76 characters.
func readable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	lines := slices.Collect(slices.Chunk([]byte(base64.StdEncoding.EncodeToString([]byte(s))), 76))
	return "Not UTF-8, base64 is: " + string(bytes.Join(lines, []byte("\n")))
}

func joined(types []QueueType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, " or ")
}

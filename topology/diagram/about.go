package diagram

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/topology"
)

// aboutQueue returns the type of q and the attributes that matter to a reader.
func aboutQueue(q topology.Queue) []string {
	about := []string{kind(q)}
	add := func(is bool, text string) {
		if is {
			about = append(about, text)
		}
	}
	args, l := arguments(q), limitsOf(q)
	amount := func(key, label string, show func(int64) string) {
		if n, ok := number(args[key]); ok {
			add(true, label+show(n))
		}
	}
	amount("x-message-ttl", "TTL ", milliseconds)
	amount("x-max-length", "max ", grouped)
	amount("x-max-length-bytes", "max ", size)
	overflow, _ := args["x-overflow"].(string)
	add(overflow != "" && bounded(args), visible(overflow))
	if n, ok := number(args["x-delivery-limit"]); ok {
		add(n >= 0, fmt.Sprintf("delivery limit %d", n))
		add(n < 0 && !(l.expires && l.deadLetters), "no delivery limit") // consumers do not read wait queues
	}
	if d := q.DelayedRetry; d != nil {
		text := "retry after " + short(d.Min)
		if d.Max > d.Min {
			text += " to " + short(d.Max)
		}
		add(true, text)
	}
	amount("x-max-priority", "priorities to ", func(n int64) string { return fmt.Sprint(n) })
	single, _ := args["x-single-active-consumer"].(bool)
	add(single, "single active consumer")
	age, _ := args["x-max-age"].(string)
	add(age != "" && q.MaxAge == 0, "max age "+visible(age))
	add(q.MaxAge != 0, "max age "+short(q.MaxAge))
	amount("x-expires", "deleted after ", func(n int64) string { return milliseconds(n) + " unused" })
	add(q.Transient, "transient")
	add(q.Exclusive, "exclusive")
	add(q.AutoDelete, "auto-delete")
	return about
}

func aboutExchange(x topology.Exchange) []string {
	about := []string{visible(string(x.Type))}
	if kind := routing(x); kind != x.Type && kind != "" {
		about = append(about, visible(string(kind)))
	}
	for _, a := range []struct {
		is   bool
		text string
	}{{x.Internal, "internal"}, {x.Transient, "transient"}, {x.AutoDelete, "auto-delete"}} {
		if a.is {
			about = append(about, a.text)
		}
	}
	return about
}

// kind returns the type of q as it is drawn.
func kind(q topology.Queue) string {
	if q.Type == "" {
		return string(topology.Quorum)
	}
	return visible(string(q.Type))
}

// routing returns the type by which x routes.
func routing(x topology.Exchange) topology.ExchangeType {
	if x.Type != "x-delayed-message" {
		return x.Type
	}
	kind, _ := x.Arguments["x-delayed-type"].(string)
	return topology.ExchangeType(kind)
}

// builtIn returns the type of an exchange that every broker has (specification, 3.1.3), or "".
func builtIn(exchange string) topology.ExchangeType {
	switch exchange {
	case "amq.direct", "amq.fanout", "amq.topic", "amq.headers":
		return topology.ExchangeType(strings.TrimPrefix(exchange, "amq."))
	case "amq.match":
		return topology.Headers
	}
	return ""
}

func alternateOf(x topology.Exchange) string {
	if x.AlternateExchange != "" {
		return x.AlternateExchange
	}
	name, _ := x.Arguments["alternate-exchange"].(string)
	return name
}

// bindingText returns the key and the arguments of b. kind is the type of its source.
func bindingText(b topology.Binding, kind topology.ExchangeType) string {
	texts := make([]string, 0, 1+len(b.Arguments))
	if b.Key != "" {
		texts = append(texts, visible(b.Key))
	}
	for _, name := range slices.Sorted(maps.Keys(b.Arguments)) {
		value := fmt.Sprintf("(%T)", b.Arguments[name])
		switch v := reflect.ValueOf(b.Arguments[name]); {
		case v.Kind() == reflect.String, v.Kind() == reflect.Bool, v.CanInt(), v.CanUint(), v.CanFloat():
			value = fmt.Sprint(v)
		}
		texts = append(texts, visible(name)+"="+visible(value))
	}
	if len(texts) == 0 && (kind == topology.Direct || kind == topology.Topic) {
		return `""` // an ordinary key there
	}
	return strings.Join(texts, ", ")
}

// limits are the attributes from which the role of a queue follows.
type limits struct {
	expires, deadLetters, unlimited, stream bool
}

func limitsOf(q topology.Queue) limits {
	args := arguments(q)
	_, expires := args["x-message-ttl"]
	_, deadLetters := args["x-dead-letter-exchange"]
	limit, ok := number(args["x-delivery-limit"])
	return limits{expires: expires, deadLetters: deadLetters, unlimited: ok && limit < 0, stream: q.Type == topology.Stream}
}

// letters are the dead letters of a queue.
type letters struct {
	exchange, key string
	reasons       []string
}

func (d letters) String() string {
	var texts []string
	if d.key != "" {
		texts = append(texts, visible(d.key))
	}
	texts = append(texts, d.reasons...)
	if len(texts) == 0 {
		return "rejected"
	}
	return strings.Join(texts, " · ")
}

// deadLettersOf returns the target of q's dead letters, and the reasons for them besides a rejection.
func deadLettersOf(q topology.Queue) (d letters, ok bool) {
	args := arguments(q)
	d.exchange, ok = args["x-dead-letter-exchange"].(string)
	d.key, _ = args["x-dead-letter-routing-key"].(string)
	if ttl, ok := number(args["x-message-ttl"]); ok {
		d.reasons = append(d.reasons, "after "+milliseconds(ttl))
	}
	if limit, ok := number(args["x-delivery-limit"]); ok && limit >= 0 {
		d.reasons = append(d.reasons, fmt.Sprintf("limit %d", limit))
	}
	if bounded(args) && args["x-overflow"] != topology.RejectPublish {
		d.reasons = append(d.reasons, "full")
	}
	return d, ok
}

func bounded(args amqp.Table) bool {
	return args["x-max-length"] != nil || args["x-max-length-bytes"] != nil
}

// arguments returns the arguments of q that are drawn, with the ones that its fields set.
func arguments(q topology.Queue) amqp.Table {
	args := amqp.Table{}
	maps.Copy(args, q.Arguments)
	set := func(is bool, key string, value any) {
		if is {
			args[key] = value
		}
	}
	set(q.MessageTTL != 0, "x-message-ttl", q.MessageTTL.Milliseconds())
	set(q.Expires != 0, "x-expires", q.Expires.Milliseconds())
	set(q.MaxLength != 0, "x-max-length", q.MaxLength)
	set(q.MaxLengthBytes != 0, "x-max-length-bytes", q.MaxLengthBytes)
	set(q.Overflow != "", "x-overflow", q.Overflow)
	set(q.MaxPriority != 0, "x-max-priority", q.MaxPriority)
	set(q.SingleActiveConsumer, "x-single-active-consumer", true)
	if q.DeliveryLimit != nil {
		args["x-delivery-limit"] = *q.DeliveryLimit
	}
	if d := q.DeadLetter; d != nil {
		args["x-dead-letter-exchange"] = d.Exchange
		set(d.RoutingKey != "", "x-dead-letter-routing-key", d.RoutingKey)
	}
	return args
}

// number returns a whole number of any type that AMQP carries.
func number(v any) (int64, bool) {
	switch r := reflect.ValueOf(v); {
	case r.CanInt():
		return r.Int(), true
	case r.CanUint():
		return int64(min(r.Uint(), math.MaxInt64)), true //nolint:gosec // bounded
	}
	return 0, false
}

func milliseconds(n int64) string {
	if n > math.MaxInt64/int64(time.Millisecond) || n < 0 {
		return fmt.Sprintf("%d ms", n)
	}
	return short(time.Duration(n) * time.Millisecond)
}

// short returns d as 90s, 1h or 7d.
func short(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// size returns a number of bytes in the largest unit that keeps it exact.
func size(n int64) string {
	for _, u := range []struct {
		bytes int64
		name  string
	}{{1e9, "GB"}, {1 << 30, "GiB"}, {1e6, "MB"}, {1 << 20, "MiB"}, {1e3, "kB"}, {1 << 10, "KiB"}} {
		if n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d %s", n/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// grouped returns n as 100,000.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count returns a number with the right form of a noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

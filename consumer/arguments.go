package consumer

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// streamOffset is an argument of basic.consume and a header of deliveries from a stream.
const streamOffset = "x-stream-offset"

// consumeArguments are the arguments of basic.consume in RabbitMQ 4.0 and 4.3, each with a check of its value.
// checkStreamOffset checks x-stream-offset.
var consumeArguments = map[string]func(v any) (expected string){
	"x-priority":                wholeNumber,
	"x-consumer-timeout":        milliseconds, // 4.3, quorum queues
	"x-cancel-on-ha-failover":   boolean,      // before 4.0
	"x-stream-filter":           filter,
	"x-stream-match-unfiltered": boolean,
	streamOffset:                func(any) string { return "" },
}

// checkArguments reports arguments that RabbitMQ would ignore or refuse. RabbitMQ ignores a misspelt argument.
func checkArguments(args amqp.Table, allowUnknown bool) (problems []*validate.Problem) {
	wrong := func(key, problem, fix string) {
		problems = append(problems, &validate.Problem{Field: "[" + validate.Quote(key) + "]", Problem: problem, Fix: fix})
	}
	names := slices.Collect(maps.Keys(consumeArguments))
	for _, key := range slices.Sorted(maps.Keys(args)) {
		check, known := consumeArguments[key]
		if known {
			if expected := check(args[key]); expected != "" {
				wrong(key, fmt.Sprintf("is a %T, and RabbitMQ expects %s", args[key], expected), "convert it")
			}
			continue
		}
		near := validate.Similar(key, names)
		switch {
		case allowUnknown:
		case near != "":
			wrong(key, "is unknown to RabbitMQ, which would ignore it", fmt.Sprintf("did you mean %q?", near))
		case strings.HasPrefix(key, "x-"):
			wrong(key, "is unknown to amqpkit, and RabbitMQ ignores unknown arguments",
				"remove it, or set AllowUnknownArguments if it is intended")
		}
	}
	if p := checkStreamOffset(args); p != nil {
		problems = append(problems, p)
	}
	return problems
}

func integer(v any) (n int64, ok bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	}
	return 0, false
}

func wholeNumber(v any) string {
	if _, ok := integer(v); !ok {
		return "a whole number"
	}
	return ""
}

func milliseconds(v any) string {
	if n, ok := integer(v); !ok || n < 0 {
		return "a whole number of milliseconds, not below zero"
	}
	return ""
}

func boolean(v any) string {
	if _, ok := v.(bool); !ok {
		return "a bool"
	}
	return ""
}

func filter(v any) string {
	values := []any{v}
	if list, ok := v.([]any); ok {
		values = list
	}
	for _, v := range values {
		if _, ok := v.(string); !ok {
			return "a string, or a []any of strings"
		}
	}
	return ""
}

var (
	streamInterval = regexp.MustCompile(`^([0-9]+)([YMDhms])$`)
	intervalUnits  = map[string]int64{"Y": 365 * 86400, "M": 30 * 86400, "D": 86400, "h": 3600, "m": 60, "s": 1}
)

// checkStreamOffset reports offsets for which RabbitMQ closes the whole connection.
func checkStreamOffset(args amqp.Table) *validate.Problem {
	offset, ok := args[streamOffset]
	if !ok {
		return nil
	}
	field := "[" + validate.Quote(streamOffset) + "]"
	switch v := offset.(type) {
	case int, int8, int16, int32, int64, uint8, uint16, uint32, time.Time:
		return nil
	case string:
		if v == "first" || v == "last" || v == "next" || streamInterval.MatchString(v) {
			return nil
		}
		return &validate.Problem{Field: field, Problem: validate.Quote(v) + " is not a stream offset", Fix: `use "first", "last", "next", an interval such as "5m", a number or a time`}
	default:
		return &validate.Problem{Field: field, Problem: fmt.Sprintf("a %T is not a stream offset", v), Fix: "use a string, an integer or a time"}
	}
}

package consumer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// consumeArguments are the arguments of basic.consume that RabbitMQ 4.0 and 4.3 know, each with a check of its value.
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
			wrong(key, "RabbitMQ knows no such argument and would ignore it", fmt.Sprintf("did you mean %q?", near))
		case strings.HasPrefix(key, "x-"):
			wrong(key, "amqpkit knows no such argument, and RabbitMQ ignores unknown arguments",
				"remove it, or set AllowUnknownArguments if it is meant")
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

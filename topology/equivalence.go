package topology

import (
	"slices"
	"strconv"
	"time"
)

// properties are the attributes that are not arguments. RabbitMQ compares all of them.
var properties = []string{"type", "durable", "auto_delete", "exclusive", "internal"}

// comparedSince are the versions from which RabbitMQ knows a queue argument and therefore compares it. It accepts and ignores
// unknown arguments.
var comparedSince = map[string][]int{
	"x-consumer-timeout":              {4, 3},
	"x-consumer-disconnected-timeout": {4, 3},
	"x-delayed-retry-type":            {4, 3},
	"x-delayed-retry-min":             {4, 3},
	"x-delayed-retry-max":             {4, 3},
	"x-stream-filter-size-bytes":      {4, 2, 7},
}

// versionOf returns the broker of a version. An empty one is newer than all others.
func versionOf(version string) broker {
	if version == "" {
		version = "999"
	}
	return brokerOf(map[string]any{"version": version})
}

// compares reports whether RabbitMQ compares an argument if a queue of type has is declared with type want. It compares the
// ones that the existing type knows. If the types differ, the ones of both matter, because the queue must be recreated.
func (b broker) compares(argument string, has, want QueueType) bool {
	switch argument {
	case "x-quorum-target-group-size": // for new members only
		return false
	case "x-consumer-timeout":
		if has != Quorum && want != Quorum {
			return false
		}
	case "x-queue-master-locator":
		return has == Classic
	}
	if since := comparedSince[argument]; since != nil && !b.atLeast(since...) {
		return false
	}
	known := queueArguments[argument].on
	return slices.Contains(known, has) || slices.Contains(known, want)
}

// sameAge reports whether two values of x-max-age are valid and equal, such as "24h" and "1D".
func sameAge(x, y any) bool {
	a, aOK := age(x)
	b, bOK := age(y)
	return aOK && bOK && a == b
}

// age parses a value of x-max-age (https://www.rabbitmq.com/docs/streams#retention): a number and one of the units Y, M, D,
// h, m and s.
func age(v any) (time.Duration, bool) {
	s, _ := v.(string)
	if s == "" {
		return 0, false
	}
	const day = 24 * time.Hour
	unit, ok := map[byte]time.Duration{
		'Y': 365 * day, 'M': 30 * day, 'D': day, 'h': time.Hour, 'm': time.Minute, 's': time.Second,
	}[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 31)
	return time.Duration(n) * unit, ok && err == nil && time.Duration(n) <= 1<<62/unit
}

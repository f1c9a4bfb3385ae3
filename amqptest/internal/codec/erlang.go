package codec

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Erlang prints bytes as Erlang's ~p does, which RabbitMQ's errors quote them with.
func Erlang(b []byte) string {
	if len(b) == 0 {
		return "<<>>"
	}
	if text := string(b); printable(text) {
		if strings.ContainsFunc(text, func(r rune) bool { return r > 255 }) {
			return `<<"` + text + `"/utf8>>`
		}
		return `<<"` + strings.ReplaceAll(text, `"`, `\"`) + `">>`
	}
	octets := make([]string, len(b))
	for i, o := range b {
		octets[i] = fmt.Sprint(o)
	}
	return "<<" + strings.Join(octets, ",") + ">>"
}

// Term prints a simple value as Erlang does.
func Term(v any) string {
	switch v := v.(type) {
	case nil:
		return "undefined"
	case []byte:
		return Erlang(v)
	}
	return fmt.Sprint(v)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < 32 || r >= 127 && r < 160 })
}

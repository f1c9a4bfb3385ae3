package codec

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Erlang formats bytes like Erlang's ~tp, which RabbitMQ uses in errors: as UTF-8 or Latin-1 text if all characters are
// printable, otherwise as numbers.
func Erlang(b []byte) string {
	if len(b) == 0 {
		return "<<>>"
	}
	if utf8.Valid(b) {
		if s, ok := erlangString([]rune(string(b))); ok {
			if utf8.RuneCount(b) < len(b) {
				return "<<" + s + "/utf8>>"
			}
			return "<<" + s + ">>"
		}
	}
	latin1 := make([]rune, len(b))
	for i, o := range b {
		latin1[i] = rune(o)
	}
	if s, ok := erlangString(latin1); ok {
		return "<<" + s + ">>"
	}
	return Octets(b)
}

// Octets formats bytes like Erlang's ~w.
func Octets(b []byte) string {
	octets := make([]string, len(b))
	for i, o := range b {
		octets[i] = fmt.Sprint(o)
	}
	return "<<" + strings.Join(octets, ",") + ">>"
}

// Term formats a simple value like Erlang.
func Term(v any) string {
	switch v := v.(type) {
	case nil:
		return "undefined"
	case []byte:
		return Erlang(v)
	}
	return fmt.Sprint(v)
}

// erlangString quotes text if all characters are printable in Erlang.
func erlangString(text []rune) (string, bool) {
	const escaped, letters = "\n\r\t\v\b\f\x1b\"\\", "nrtvbfe\"\\"
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		if i := strings.IndexRune(escaped, r); i >= 0 {
			b.WriteByte('\\')
			b.WriteByte(letters[i])
			continue
		}
		if r < 32 || r >= 127 && r < 160 || r == 0xFFFE || r == 0xFFFF {
			return "", false
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String(), true
}

// erlangPair formats a pair like Erlang's ~p after the given number of characters on the line. It breaks the line at 80
// characters.
func erlangPair(behind int, name string, value int) string {
	s := fmt.Sprintf("{%s,%d}", name, value)
	if behind+len(s) < 80 {
		return s
	}
	return fmt.Sprintf("{%s,\n%*d}", name, behind+1+len(fmt.Sprint(value)), value)
}

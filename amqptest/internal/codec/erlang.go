package codec

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Erlang prints bytes as Erlang's ~tp does, which RabbitMQ's errors quote them with: as UTF-8 or as Latin-1 if all of them
// can be printed, else as numbers.
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

// Octets prints bytes as Erlang's ~w does.
func Octets(b []byte) string {
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

// erlangString quotes text, unless Erlang finds a character in it that cannot be printed.
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

// erlangPair prints a pair as Erlang's ~p does behind so many characters of its line: one that reaches the 80th goes on in a
// line of its own.
func erlangPair(behind int, name string, value int) string {
	s := fmt.Sprintf("{%s,%d}", name, value)
	if behind+len(s) < 80 {
		return s
	}
	return fmt.Sprintf("{%s,\n%*d}", name, behind+1+len(fmt.Sprint(value)), value)
}

package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// isTerminal reports whether w or r is a terminal.
func isTerminal(v any) bool {
	switch v := v.(type) {
	case *os.File:
		return term.IsTerminal(int(v.Fd()))
	case interface{ IsTerminal() bool }: // a test
		return v.IsTerminal()
	}
	return false
}

// printJSON writes v as one line.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// count returns "1 message", "2 messages", "12,345 messages".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return group(n) + " " + noun
}

// group returns n with a comma between thousands.
func group(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

const maxDump = 1024 // bytes of a body that is not text

// printable returns a body for a terminal. Control characters of a text are escaped, except for line breaks and tabs. Other bodies are a
// hexadecimal dump of their start.
func printable(body []byte) string {
	if !utf8.Valid(body) || strings.ContainsRune(string(body), 0) {
		s := strings.TrimSuffix(hex.Dump(body[:min(len(body), maxDump)]), "\n")
		if more := len(body) - maxDump; more > 0 {
			s += fmt.Sprintf("\n… %s bytes more; --dir DIR and --output json write all", group(more))
		}
		return s
	}
	var b strings.Builder
	for _, r := range string(body) {
		if r == '\n' || r == '\t' || strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// jsonText returns v as JSON without a line break.
func jsonText(v any) string {
	var b strings.Builder
	_ = printJSON(&b, v)
	return strings.TrimSuffix(b.String(), "\n")
}

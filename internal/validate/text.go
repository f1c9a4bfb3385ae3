package validate

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable returns text of a broker or a message for an error message or a line of output, with line breaks,
// escape characters and everything else that is not printable written as Go's escapes.
func Printable(s string) string {
	clean := true
	for _, r := range s {
		clean = clean && r != utf8.RuneError && strconv.IsPrint(r)
	}
	if clean {
		return s
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// Quote quotes s for an error message, cut to a readable length.
func Quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:end], len(s))
}

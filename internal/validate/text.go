package validate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable prepares text from a broker or a message for an error message or output. It replaces line breaks, escape
// characters and other unprintable characters by Go's escapes.
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

// Quote quotes s for an error message and truncates it to a readable length.
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

// packages are the packages of amqpkit whose names begin an error text.
var packages = []string{"amqpkit", "producer", "consumer", "topology", "retry", "parking", "inbox"}

// Unprefixed returns an error with the causes and the text of err, without the names of amqpkit's packages at its
// start. Use it for the causes in an error text that starts with the package's own name.
func Unprefixed(err error) error {
	if err == nil {
		return nil
	}
	return unprefixed{err}
}

type unprefixed struct{ error }

func (e unprefixed) Error() string {
	text := e.error.Error()
	for {
		name, rest, ok := strings.Cut(text, ": ")
		if !ok || !slices.Contains(packages, name) {
			return text
		}
		text = rest
	}
}

func (e unprefixed) Unwrap() error { return e.error }

// AlsoNamed returns the problem of an object that contradicts an earlier one: its place, such as "Queues[0]", and the
// difference.
func AlsoNamed(first, difference string) string {
	return alsoNamed + first + ", but " + difference
}

const alsoNamed = "is also the name of "

// CutAlsoNamed returns the parts of a problem that AlsoNamed made.
func CutAlsoNamed(problem string) (first, difference string, ok bool) {
	rest, ok := strings.CutPrefix(problem, alsoNamed)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ", but ")
}

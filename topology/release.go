package topology

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strconv"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A release is a version of RabbitMQ. The zero value precedes all of them.
type release struct{ major, minor, patch int }

var (
	oldest = release{3, 13, 0} // that the rules of Lint describe
	newest = release{4, 3, math.MaxInt}
)

var releasePattern = regexp.MustCompile(`^([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4})(?:\.[0-9]+)*)?(?:[+~-][0-9A-Za-z.+~-]*)?$`)

// parseRelease reads a version as RabbitMQ reports it: "4.3.6", "4.3.0-rc.1". "4.3" is the newest patch of 4.3, and "" the
// newest known release.
func parseRelease(s string) (release, error) {
	if s == "" {
		return newest, nil
	}
	wrong := func(problem, fix string) (release, error) {
		return release{}, &amqperr.FieldError{Package: "topology", Field: "version", Problem: problem, Fix: fix}
	}
	m := releasePattern.FindStringSubmatch(s)
	if m == nil {
		return wrong(validate.Quote(s)+" is not a version of RabbitMQ", `write one such as "4.3" or "4.3.6", or leave it empty for the newest known one`)
	}
	r := release{patch: math.MaxInt}
	r.major, _ = strconv.Atoi(m[1]) // the pattern bounds the digits
	r.minor, _ = strconv.Atoi(m[2])
	if m[3] != "" {
		r.patch, _ = strconv.Atoi(m[3])
	}
	if r.before(oldest) {
		return wrong(fmt.Sprintf("RabbitMQ %s is older than %s, and the rules begin there", s, oldest), "lint for a newer version")
	}
	return r, nil
}

func (r release) before(other release) bool {
	return cmp.Or(cmp.Compare(r.major, other.major), cmp.Compare(r.minor, other.minor), cmp.Compare(r.patch, other.patch)) < 0
}

// String returns the version without the patch if it does not matter.
func (r release) String() string {
	if r.patch == 0 || r.patch == math.MaxInt {
		return fmt.Sprintf("%d.%d", r.major, r.minor)
	}
	return fmt.Sprintf("%d.%d.%d", r.major, r.minor, r.patch)
}

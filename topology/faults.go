package topology

import (
	"fmt"
	"strings"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// faults collects the errors that a check finds.
type faults struct {
	at   string // the checked object: `Queues[2] "orders"`
	errs []error
}

func (f *faults) add(field, problem, fix string) {
	f.errs = append(f.errs, &amqperr.FieldError{Package: "topology", Field: f.at + field, Problem: problem, Fix: fix})
}

// found adds the problem that a check of package validate returned. It ignores nil.
func (f *faults) found(field string, p *validate.Problem) {
	if p != nil {
		f.add(field+p.Field, p.Problem, p.Fix)
	}
}

// own checks the name of an object that is declared.
func (f *faults) own(name, fix string) {
	f.found(".Name", validate.Name(name))
	if strings.HasPrefix(name, "amq.") {
		f.add(".Name", `the prefix "amq." is reserved for the broker`, fix)
	}
}

// oneOf checks a value against the values that RabbitMQ accepts. The zero value is the default.
func oneOf[T ~string](f *faults, field string, v T, known ...T) {
	if v == "" {
		return
	}
	quoted := make([]string, len(known))
	for i, k := range known {
		if v == k {
			return
		}
		quoted[i] = fmt.Sprintf("%q", string(k))
	}
	f.add(field, validate.Quote(string(v))+" is unknown", "use "+strings.Join(quoted, " or "))
}

// place returns the field of an object in a list of the topology: `Queues[2] "orders"`.
func place(list string, i int, name string) string {
	return fmt.Sprintf("%s[%d] %s", list, i, validate.Quote(name))
}

// raw returns the field of an argument.
func raw(key string) string { return ".Arguments[" + validate.Quote(key) + "]" }

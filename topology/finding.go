package topology

import "fmt"

// A Severity ranks the findings of [Topology.Lint].
type Severity string

// The severities, most serious first.
const (
	SeverityError   Severity = "error"   // RabbitMQ or Declare refuses the object, or the object cannot work
	SeverityWarning Severity = "warning" // RabbitMQ may drop messages, or ignores a setting
	SeverityNote    Severity = "note"    // usual and often intended, but worth a decision
)

// A Finding is a mistake or a risk in a topology, found by [Topology.Lint].
type Finding struct {
	ID          string   // of the rule, such as "default-delivery-limit"; see LintRules
	Severity    Severity // of the rule
	Object      string   // `queue "orders"`
	Field       string   // `Queues[0] "orders".DeliveryLimit`, as in the errors of Validate
	Problem     string   // of the field
	Consequence string   // for the declaration or for messages
	Fix         string   // the field to change
}

// String returns f as one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s %s: %s: %s. %s. Fix: %s.", f.Severity, f.ID, f.Field, f.Problem, f.Consequence, f.Fix)
}

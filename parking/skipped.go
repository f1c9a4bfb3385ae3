package parking

import (
	"fmt"
	"strings"
)

// maxSkipped is how many causes a SkippedError keeps.
const maxSkipped = 10

// A SkippedError reports messages that Replay or Import could not publish and continued past. No message is lost: what Replay
// skipped is still parked, what Import skipped is still in its file.
type SkippedError struct {
	Count int     // messages
	First []error // the causes of the first ten, each with its message id or line and the Publisher's error
}

func (e *SkippedError) Error() string {
	causes := make([]string, len(e.First))
	for i, err := range e.First {
		causes[i] = strings.TrimPrefix(err.Error(), "parking: ")
	}
	s := fmt.Sprintf("parking: %d messages could not be published: %s", e.Count, strings.Join(causes, "; "))
	if more := e.Count - len(e.First); more > 0 {
		s += fmt.Sprintf("; and %d more", more)
	}
	return s
}

// Unwrap returns First.
func (e *SkippedError) Unwrap() []error { return e.First }

func (e *SkippedError) add(cause error) {
	if e.Count++; len(e.First) < maxSkipped {
		e.First = append(e.First, cause)
	}
}

// err returns e if a message was skipped.
func (e *SkippedError) err() error {
	if e.Count == 0 {
		return nil
	}
	return e
}

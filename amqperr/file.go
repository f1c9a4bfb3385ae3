package amqperr

import "fmt"

// A FileError reports a fault in a file, such as a misspelt key or a value of the wrong type. Field is in the words of
// the file: "queues.orders.message_ttl". It is empty if the file cannot be parsed.
type FileError struct {
	FieldError
	File   string // as the caller named it; empty if the data has no name
	Line   int    // from 1
	Column int    // in characters, from 1
}

func (e *FileError) Error() string {
	at := fmt.Sprintf("line %d, column %d", e.Line, e.Column)
	if e.File != "" {
		at = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	}
	if e.Package != "" {
		at = e.Package + ": " + at
	}
	if e.Field != "" {
		at += ": " + e.Field
	}
	if e.Fix != "" {
		return at + ": " + e.Problem + "; " + e.Fix
	}
	return at + ": " + e.Problem
}

// Unwrap returns the FieldError.
func (e *FileError) Unwrap() error { return &e.FieldError }

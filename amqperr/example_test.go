package amqperr_test

import (
	"errors"
	"fmt"

	"github.com/amqpkit/amqpkit/amqperr"
)

// A handler marks an error that another attempt cannot fix.
func ExamplePermanent() {
	handle := func(body string) error {
		if body == "" {
			return amqperr.Permanent(errors.New("empty order"))
		}
		return errors.New("database is down")
	}
	for _, body := range []string{"", "order 7"} {
		err := handle(body)
		fmt.Printf("%v: permanent %v\n", err, amqperr.IsPermanent(err))
	}
	// Output:
	// empty order: permanent true
	// database is down: permanent false
}

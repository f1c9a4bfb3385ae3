package management

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// An Error reports a request that failed.
type Error struct {
	Method string // "GET"
	Path   string // "/api/queues/%2F"
	Status int    // of HTTP; zero without an answer, 200 if the answer could not be read
	Reason string // RabbitMQ's text, such as "not_authorised: Not management user"; may be empty
	Err    error  // the cause, if there was no readable answer
}

func (e *Error) Error() string {
	return fmt.Sprintf("management: %s %s: %s", e.Method, e.Path, e.what())
}

// what returns the cause and the next step.
func (e *Error) what() (s string) {
	switch {
	case e.Err != nil:
		s = validate.Printable(e.Err.Error())
	case e.Reason != "":
		s = fmt.Sprintf("%d %s", e.Status, validate.Printable(e.Reason))
	default:
		s = fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	}
	if next := e.next(); next != "" {
		s += "; " + next
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// denied reports whether the user lacks a right. RabbitMQ answers 401 in this case too, with another text.
func (e *Error) denied() bool {
	return e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized && strings.HasPrefix(e.Reason, "not_authorised")
}

func (e *Error) next() string {
	const noAPI = "check the host and the port, and enable RabbitMQ's plugin rabbitmq_management"
	switch {
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return noAPI
	case e.Err != nil && e.Status == 0:
		return "check the URL: its scheme, host and port"
	case e.Err != nil:
		return "check the URL, which may lead to a proxy or to another service"
	case e.Status >= 300 && e.Status < 400:
		return "set Config.URL to that address; redirects are not followed, because they would carry the password"
	case e.denied() && strings.Contains(e.Reason, "virtual host"):
		return "give the user permissions for the virtual host"
	case e.denied() && strings.Contains(e.Reason, "access object"):
		return "give the user the tag policymaker or administrator"
	case e.denied():
		return "give the user the tag management or monitoring"
	case e.Status == http.StatusUnauthorized:
		return "check the user and the password"
	case e.Status == http.StatusNotFound && e.Reason == "":
		return "there is no management API at this URL: " + noAPI
	case e.Status == http.StatusNotFound:
		return "check the name of the virtual host, and that the user has permissions for it"
	case e.Status >= 500 && e.Reason == "":
		return "check the URL, which may lead to a proxy, and the log of the broker"
	}
	return ""
}

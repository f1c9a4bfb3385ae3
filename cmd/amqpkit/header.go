package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// parseHeaders reads headers of the form name=text, or name:=JSON for a number, a boolean, null, a list or a table.
func parseHeaders(list []string) (amqp.Table, error) {
	if len(list) == 0 {
		return nil, nil
	}
	headers := amqp.Table{}
	for _, arg := range list {
		name, text, ok := strings.Cut(arg, "=")
		typed := strings.HasSuffix(name, ":")
		if name = strings.TrimSuffix(name, ":"); !ok || name == "" {
			return nil, usage("--header %s: write name=text, or name:=5 for a number, true, false, null, a list or a table in JSON", validate.Quote(arg))
		}
		if _, again := headers[name]; again {
			return nil, usage("--header %s: the name occurs twice", validate.Quote(name))
		}
		var value any = text
		if typed {
			var err error
			if value, err = parseValue(text); err != nil {
				return nil, usage("--header %s: %v; write %s=%s for a text", validate.Quote(arg), err, name, text)
			}
		}
		headers[name] = value
	}
	return headers, nil
}

// parseValue reads a header value in JSON. A number without a fraction is an int64, another one a float64.
func parseValue(text string) (any, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return nil, fmt.Errorf("%s is not a JSON value", validate.Quote(text))
	}
	return fromJSON(v)
}

func fromJSON(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case []any:
		for i := range v {
			e, err := fromJSON(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = e
		}
		return v, nil
	case map[string]any:
		t := amqp.Table{}
		for name, e := range v {
			e, err := fromJSON(e)
			if err != nil {
				return nil, err
			}
			t[name] = e
		}
		return t, nil
	}
	return v, nil
}

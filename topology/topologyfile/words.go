package topologyfile

import (
	"regexp"
	"strings"
)

// words translate the names of package topology into the ones of a file.
type words map[string]string

var formWords = words{
	"Name": "name", "Type": "type", "Transient": "durable", "AutoDelete": "auto_delete", "Internal": "internal", "Exclusive": "exclusive",
	"AlternateExchange": "alternate_exchange", "Arguments": "arguments", "AllowUnknownArguments": "allow_unknown_arguments",
	"MessageTTL": "message_ttl", "Expires": "expires", "MaxLength": "max_length", "MaxLengthBytes": "max_length_bytes", "Overflow": "overflow",
	"MaxPriority": "max_priority", "DeadLetter": "dead_letter", "DeadLetter.Exchange": "dead_letter.exchange",
	"DeadLetter.RoutingKey": "dead_letter.routing_key", "DeadLetter.Strategy": "dead_letter.strategy", "DeliveryLimit": "delivery_limit",
	"DelayedRetry": "delayed_retry", "DelayedRetry.Min": "delayed_retry.min", "DelayedRetry.Max": "delayed_retry.max",
	"DelayedRetry.Type": "delayed_retry.type", "Min": "min", "Max": "max", "SingleActiveConsumer": "single_active_consumer",
	"LeaderLocator": "leader_locator", "MaxAge": "max_age", "MaxSegmentBytes": "max_segment_bytes",
	"Source": "source", "Queue": "queue", "Exchange": "exchange", "Key": "key",

	"new(topology.Unlimited)": "unlimited", "Unlimited": "unlimited", "topology.RejectPublish": "reject-publish", "RejectPublish": "reject-publish",
	"topology.Classic": "classic", "Direct": "direct", "Fanout": "fanout", "Topic": "topic", "Headers": "headers",
}

var definitionsWords = func() words {
	w := words{}
	for from, to := range formWords {
		w[from] = to
	}
	for key, field := range fieldOf {
		w[field] = key
	}
	for key, field := range keyOf {
		w[field] = key
	}
	w["Type"], w["DeadLetter"], w["DelayedRetry"] = "type", "x-dead-letter-exchange", "x-delayed-retry-type"
	w["Min"], w["Max"] = "x-delayed-retry-min", "x-delayed-retry-max"
	w["Queue"], w["Exchange"] = "destination", "destination"
	w["new(topology.Unlimited)"], w["Unlimited"] = "-1", "-1"
	return w
}()

// field translates the path of a field.
func (w words) field(path string) string {
	if to, ok := w[path]; ok {
		return to
	}
	return path
}

var identifier = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|new\(topology\.Unlimited\)|topology\.[A-Z]\w*|\b[A-Z]\w*(?:\.[A-Z]\w*)?\b`)

// translate translates the names in a text, except in quotes.
func (w words) translate(text string) string {
	text = strings.ReplaceAll(text, "leave it zero", "remove it") // zero is an error in a file
	return identifier.ReplaceAllStringFunc(text, func(name string) string {
		if strings.HasPrefix(name, `"`) {
			return name
		}
		if to, ok := w[name]; ok {
			return to
		}
		return name
	})
}

package topology

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/topology"
	"github.com/amqpkit/amqpkit/topology/topologyfile"
)

const everyKindOfObject = `
exchanges:
  orders: {type: topic, alternate_exchange: unrouted}
  unrouted: {type: fanout, auto_delete: true}
  "no": {type: headers, durable: false}
queues:
  billing:
    message_ttl: 1h
    max_length: 1000
    overflow: reject-publish
    dead_letter: {routing_key: billing.failed, strategy: at-least-once}
    delivery_limit: 5
    single_active_consumer: true
  billing.failed: {delivery_limit: unlimited}
  legacy: {type: classic, max_priority: 5, expires: 7d, arguments: {x-message-ttl: 0}}
  events: {type: stream, max_age: 7d, max_segment_bytes: 1000000}
  "é / & \"": {arguments: {team: billing, nested: {list: [1, 2.5, 1.0, true, {deep: 9007199254740993}]}}}
bindings:
  - {source: orders, queue: billing, key: "order.*"}
  - {source: orders, exchange: "no", key: "#"}
  - {source: amq.headers, queue: events, arguments: {x-match: any, amount: 5, rate: 1.5, country: no}}
`

func TestATopologyFileIsDeclaredAndExportedByRabbitMQ(t *testing.T) {
	b, host := kit.NeedsControl(t), virtualHost(t)
	want, err := topologyfile.Parse([]byte(everyKindOfObject))
	if err != nil {
		t.Fatal(err)
	}
	if err := want.Declare(t.Context(), dialHost(t, b, host)); err != nil {
		t.Fatal(err)
	}
	expectDefinitions(t, exported(t, b, host), want)
}

func TestRabbitMQImportsDefinitions(t *testing.T) {
	b, host := kit.NeedsControl(t), virtualHost(t)
	want, err := topologyfile.Parse([]byte(everyKindOfObject))
	if err != nil {
		t.Fatal(err)
	}
	// RabbitMQ ignores the key allow_unknown_arguments.
	want.Queues = append(want.Queues, topology.Queue{Name: "new", Arguments: amqp.Table{"x-new": "a"}, AllowUnknownArguments: true})
	data, err := want.Definitions(host)
	if err != nil {
		t.Fatal(err)
	}
	if err := imported(t, b, data); err != nil {
		t.Fatal(err)
	}
	want.Queues[len(want.Queues)-1].AllowUnknownArguments = false
	expectDefinitions(t, exported(t, b, host), want)

	null := topology.Topology{Queues: []topology.Queue{{Name: "null", Arguments: amqp.Table{"team": nil}}}}
	if data, err = null.Definitions(host); err != nil {
		t.Fatal(err)
	}
	if err := imported(t, b, data); err == nil || !strings.Contains(err.Error(), "null_not_allowed") {
		t.Errorf("an argument of null is imported: %v, and the documentation of Definitions says otherwise", err)
	}
}

// virtualHost adds a virtual host, which other tests do not use.
func virtualHost(t *testing.T) string {
	t.Helper()
	b, host := kit.NeedsControl(t), kit.Unique("files")
	for _, command := range [][]string{{"add_vhost", host}, {"set_permissions", "-p", host, "guest", ".*", ".*", ".*"}} {
		if _, err := b.Ctl(t.Context(), command...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := b.Ctl(ctx, "delete_vhost", host); err != nil {
			t.Error(err)
		}
	})
	return host
}

func dialHost(t *testing.T, b *rabbit.Broker, host string) *amqp.Connection {
	t.Helper()
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + host
	ac, err := amqp.Dial(u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	return ac
}

// exported returns the definitions of a virtual host as RabbitMQ exports them.
func exported(t *testing.T, b *rabbit.Broker, host string) topology.Definitions {
	t.Helper()
	out, err := b.Ctl(t.Context(), "export_definitions", "-")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(out, "{") // a line for people precedes it
	d, err := topology.ReadDefinitions([]byte("{"+text), host)
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	t.Logf("unsupported: %v", d.Unsupported)
	for _, u := range d.Unsupported {
		if strings.Contains(u.Content, "with the key") {
			t.Errorf("RabbitMQ exports %v", u)
		}
	}
	if !slices.ContainsFunc(d.Unsupported, func(u topology.Unsupported) bool { return u.Content == "users" && u.Count > 0 }) {
		t.Errorf("users are not reported: %v", d.Unsupported)
	}
	return d
}

// imported writes a file on the node and imports it.
func imported(t *testing.T, b *rabbit.Broker, data []byte) error {
	t.Helper()
	path := "/tmp/" + kit.Unique("definitions") + ".json"
	write := fmt.Sprintf(`file:write_file("%s", base64:decode(<<"%s">>)).`, path, base64.StdEncoding.EncodeToString(data))
	if out, err := b.Ctl(t.Context(), "eval", write); err != nil || strings.TrimSpace(out) != "ok" {
		t.Fatalf("%s, %v", out, err)
	}
	_, err := b.Ctl(t.Context(), "import_definitions", path)
	if out, e := b.Ctl(t.Context(), "eval", fmt.Sprintf(`file:delete("%s").`, path)); e != nil {
		t.Errorf("%s, %v", out, e)
	}
	return err
}

func expectDefinitions(t *testing.T, got topology.Definitions, want topology.Topology) {
	t.Helper()
	data, err := want.Definitions("")
	if err != nil {
		t.Fatal(err)
	}
	read, err := topology.ReadDefinitions(data, "")
	if err != nil {
		t.Fatal(err)
	}
	if g, w := sorted(got.Topology), sorted(read.Topology); !reflect.DeepEqual(g, w) {
		t.Errorf("RabbitMQ has\n%s\nwant\n%s", shown(t, g), shown(t, w))
	}
}

func shown(t *testing.T, topo topology.Topology) string {
	t.Helper()
	data, err := topo.Definitions("")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func sorted(topo topology.Topology) topology.Topology {
	slices.SortFunc(topo.Exchanges, func(a, b topology.Exchange) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(topo.Queues, func(a, b topology.Queue) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(topo.Bindings, func(a, b topology.Binding) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Queue+a.Exchange, b.Queue+b.Exchange))
	})
	return topo
}

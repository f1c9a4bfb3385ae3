package topologyfile_test

import (
	"context"
	_ "embed"
	"fmt"
	"log"
	"testing/fstest"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/topology"
	"github.com/amqpkit/amqpkit/topology/topologyfile"
)

//go:embed testdata/orders.yaml
var file []byte

// A program declares the topology of an embedded file on every new session.
func ExampleParse() {
	broker, err := amqptest.New(amqptest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()

	orders, err := topologyfile.Parse(file)
	if err != nil {
		log.Fatal(err)
	}
	cfg := amqpkit.Config{URLs: []string{broker.URL()}, Setup: orders.Declare}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := amqpkit.DialConfig(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	ac, err := conn.ConsumeConnection(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(orders.Verify(ctx, ac))
	// Output: <nil>
}

func ExampleLoad() {
	files := fstest.MapFS{ // usually os.DirFS or an embed.FS
		"orders.yaml": {Data: []byte(`
exchanges:
  orders: {type: topic}
queues:
  billing:
    mesage_ttl: 60000
    message_ttl: 60000
`)},
		"shop.json": {Data: []byte(`{"queues": [{"name": "billing", "durable": "yes"}]}`)},
	}
	_, err := topologyfile.Load(files, "orders.yaml", "shop.json")
	fmt.Println(err)
	// Output:
	// topology: orders.yaml:6:5: queues.billing.mesage_ttl: is unknown; did you mean "message_ttl"?
	// topology: orders.yaml:7:18: queues.billing.message_ttl: 60000 has no unit; write 60000ms or 1m if it is in milliseconds
	// topology: shop.json:1:44: queues[0].durable: is the string "yes"; write true or false
}

func ExampleLoader() {
	loader := topologyfile.Loader{
		LookupEnv: func(name string) (string, bool) { return "30s", name == "TTL" },
		Unsupported: func(file string, content topology.Unsupported) {
			fmt.Printf("%s:%d: omitted: %v\n", file, content.Line, content)
		},
	}
	files := fstest.MapFS{"exported.json": {Data: []byte(`{
		"policies": [{"name": "ha"}],
		"queues": [{"name": "${PREFIX:-shop}.mail", "arguments": {"x-queue-type": "quorum", "x-message-ttl": "${TTL}"}}]
	}`)}}
	loaded, err := loader.Load(files, "exported.json")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(loaded.Queues[0].Name, loaded.Queues[0].MessageTTL)
	// Output:
	// exported.json:2: omitted: policies (1)
	// shop.mail 30s
}

func ExampleMarshal() {
	yaml, err := topologyfile.Marshal(topology.Topology{
		Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}},
		Queues:    []topology.Queue{{Name: "billing", MessageTTL: time.Hour, DeadLetter: &topology.DeadLetter{RoutingKey: "billing.failed"}}},
		Bindings:  []topology.Binding{{Source: "orders", Queue: "billing", Key: "#"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", yaml)
	// Output:
	// exchanges:
	//   orders: {type: topic}
	// queues:
	//   billing:
	//     message_ttl: 1h
	//     dead_letter: {routing_key: billing.failed}
	// bindings:
	//   - {source: orders, queue: billing, key: "#"}
}

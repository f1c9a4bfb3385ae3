package diagram_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/amqpkit/amqpkit/topology"
	"github.com/amqpkit/amqpkit/topology/diagram"
)

var orders = topology.Topology{
	Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}},
	Queues: []topology.Queue{
		{Name: "billing", DeadLetter: &topology.DeadLetter{RoutingKey: "billing.parked"}},
		{Name: "billing.wait", MessageTTL: time.Minute, DeadLetter: &topology.DeadLetter{RoutingKey: "billing"}},
		{Name: "billing.parked", DeliveryLimit: new(topology.Unlimited)},
	},
	Bindings: []topology.Binding{
		{Source: "orders", Queue: "billing", Key: "order.paid"},
		{Source: "orders", Queue: "billing", Key: "order.cancelled"},
	},
}

func ExampleMermaid() {
	fmt.Print(diagram.Mermaid(orders))
	// Output:
	// flowchart LR
	//   accTitle: Topology of 1 exchange and 3 queues
	//   n0(["orders<br/>topic"]):::exchange
	//   n1["billing<br/>quorum"]:::queue
	//   n2["billing.wait<br/>quorum · TTL 1m"]:::wait
	//   n3["billing.parked<br/>quorum · no delivery limit"]:::parking
	//   n0 -->|"order.paid, order.cancelled"| n1
	//   n1 -.->|"rejected"| n3
	//   n2 -.->|"after 1m"| n1
	//   classDef exchange fill:#e3ecfb,stroke:#2f5aa8,color:#1b1f24
	//   classDef queue fill:#f1f3f5,stroke:#4b5563,color:#1b1f24
	//   classDef wait fill:#fff4d1,stroke:#8a6100,color:#1b1f24
	//   classDef parking fill:#fbe4e1,stroke:#9f2f22,color:#1b1f24
	//   linkStyle 1,2 stroke:#b42318,stroke-dasharray:6 4
}

func ExampleSVG() {
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	if err := os.WriteFile(filepath.Join(folder, "orders.svg"), []byte(diagram.SVG(orders)), 0o644); err != nil {
		log.Fatal(err)
	}
	// Output:
}

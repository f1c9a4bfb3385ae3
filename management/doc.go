// Package management is a small client of RabbitMQ's management API. It reads what exists in a virtual host and changes
// nothing.
//
// A plan shows every difference between a topology and the broker, before the topology is declared:
//
//	client, err := management.New(management.Config{URL: "http://user:password@rabbit:15672"})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	existing, err := client.Existing(ctx, "/")
//	if err != nil {
//		return err
//	}
//	plan := topology.Diff(orders, existing) // orders is a topology.Topology
//	fmt.Println(plan)
//
// [FromAMQP] derives the Config from an AMQP URL. The user needs the tag management, and any permission for the virtual host
// (https://www.rabbitmq.com/docs/management#permissions). Without the management API,
// use [topology.Topology.Probe].
package management

// Package rabbit starts RabbitMQ for tests and for the demo:
//
//	broker, err := rabbit.Start(ctx, rabbit.Options{})
//	if err != nil {
//		return err // lists the packages to install
//	}
//	defer broker.Close(ctx)
//	conn, err := amqpkit.Dial(ctx, broker.URL())
//
// Start uses the first of these that is available:
//
//  1. The broker of the environment variable AMQP_URL. This package only talks AMQP to it, and neither stops nor inspects
//     it.
//  2. A container on a local Docker engine, unless AMQPKIT_DOCKER=off. The image is RABBITMQ_IMAGE if set, otherwise the
//     official image if it is present or can be pulled within a minute, otherwise one that debian/image.sh builds from
//     Debian packages. The image is built once; after that, Start no longer tries to pull the official one.
//  3. A private node of an installed rabbitmq-server, unless AMQPKIT_SERVER=off. It uses free ports and is independent of
//     the system's RabbitMQ service. As root on Debian, Start installs the package, unless Options.InstalledOnly is set.
//
// A broker keeps its port and data across restarts and is removed by Close. If a process is killed before Close, the next
// Start on the same machine removes its brokers.
//
// Attach uses the broker of another process on the same machine.
//
// Broker has methods that inject faults: Kill, Pause, MemoryAlarm, CloseConnection. StartCluster starts several nodes, in
// containers only, and Cluster adds network faults: Disconnect, Partition.
package rabbit

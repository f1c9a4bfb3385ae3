// Package rabbit runs a RabbitMQ for tests and for the demo. It is the one place of this repository that
// knows how to get one:
//
//	broker, err := rabbit.Start(ctx, rabbit.Options{})
//	if err != nil {
//		return err // says what to install
//	}
//	defer broker.Close(ctx)
//	conn, err := amqpkit.Dial(ctx, broker.URL())
//
// Start takes the first of these that can be had:
//
//  1. The broker that the environment variable AMQP_URL names. It is used as it is: nothing here
//     stops it or asks it anything but AMQP.
//  2. A container on a local Docker engine (AMQPKIT_DOCKER=off leaves it out), of the image
//     $RABBITMQ_IMAGE; else of the official image, if it is there or can be pulled within a minute; else of
//     an image that debian/image.sh builds from Debian packages, once. Once that is built, no pull is tried.
//  3. A private node of an installed rabbitmq-server, on free ports, beside and apart from whatever
//     service the package runs (AMQPKIT_SERVER=off leaves it out). As root on Debian the package is installed, unless
//     Options.InstalledOnly forbids it.
//
// What Start started keeps its port and its data when it is stopped and started again, and ends at
// Close. What a killed process left behind is ended by the next Start on the same machine.
//
// A broker that was started here can be made to suffer: Kill, Pause, MemoryAlarm, CloseConnection. StartCluster starts
// several nodes, in containers only, that can also be cut off each other: Disconnect, Partition.
package rabbit

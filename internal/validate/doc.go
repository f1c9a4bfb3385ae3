// Package validate refuses values that RabbitMQ, amqp091-go or clients of other languages could not take, before they are sent: names,
// headers, arguments and properties. A value that the broker refuses closes the channel or the whole connection.
package validate

// Package validate refuses values that RabbitMQ, amqp091-go or clients of other languages cannot accept, before they are
// sent: names, headers, arguments and properties. The broker would close the channel or the whole connection on them.
package validate

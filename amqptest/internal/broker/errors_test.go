package broker

import (
	"context"
	"errors"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Each mistake is answered with RabbitMQ's code and text and closes the channel or the connection.
func TestErrorsMatchRabbitMQ(t *testing.T) {
	type call = func(s *stage, ch *amqp.Channel) error
	declare := func(name string, args amqp.Table) call {
		return func(_ *stage, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(name, true, false, false, false, args)
			return err
		}
	}
	exchange := func(name, kind string, durable bool, args amqp.Table) call {
		return func(_ *stage, ch *amqp.Channel) error {
			return ch.ExchangeDeclare(name, kind, durable, false, false, false, args)
		}
	}
	publish := func(exchange string, immediate bool, p amqp.Publishing) call {
		return func(_ *stage, ch *amqp.Channel) error {
			return ch.PublishWithContext(context.Background(), exchange, "q", false, immediate, p)
		}
	}
	consume := func(queue string, noAck, exclusive bool, args amqp.Table) call {
		return func(_ *stage, ch *amqp.Channel) error {
			_, err := ch.Consume(queue, "", noAck, exclusive, false, false, args)
			return err
		}
	}
	for name, c := range map[string]struct {
		code int
		text string
		do   call
	}{
		"type":        {406, `invalid arg 'x-queue-type' for queue 'n' in vhost '/': "unsupported queue type 'nope'"`, declare("n", amqp.Table{"x-queue-type": "nope"})},
		"stream":      {540, "amqptest: streams are not implemented", declare("n", amqp.Table{"x-queue-type": "stream"})},
		"foreign":     {406, "invalid arg 'x-max-priority' for queue 'n' in vhost '/' of queue type rabbit_quorum_queue", declare("n", amqp.Table{"x-queue-type": "quorum", "x-max-priority": 1})},
		"no number":   {406, `invalid arg 'x-max-length' for queue 'n' in vhost '/': "expected integer, got longstr"`, declare("n", amqp.Table{"x-max-length": "1"})},
		"negative":    {406, "invalid arg 'x-message-ttl' for queue 'n' in vhost '/': {value_negative,-1}", declare("n", amqp.Table{"x-message-ttl": -1})},
		"zero":        {406, "{value_zero,0}", declare("n", amqp.Table{"x-expires": 0})},
		"overflow":    {406, "invalid_overflow", declare("n", amqp.Table{"x-overflow": "x"})},
		"key, no dlx": {406, "routing_key_but_no_dlx_defined", declare("n", amqp.Table{"x-dead-letter-routing-key": "x"})},
		"version":     {406, `"unsupported queue version '1'"`, declare("n", amqp.Table{"x-queue-version": 1})},
		"reserved":    {403, "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'", declare("amq.x", nil)},
		"value":       {406, "inequivalent arg 'x-message-ttl' for queue 'ttl' in vhost '/': received '1' but current is '60000'", declare("ttl", amqp.Table{"x-message-ttl": 1})},
		"missing":     {406, "received none but current is the value '60000' of type 'signedint'", declare("ttl", nil)},
		"extra":       {406, "inequivalent arg 'x-expires' for queue 'ttl' in vhost '/': received the value '5' of type 'signedint' but current is none", declare("ttl", amqp.Table{"x-message-ttl": 60000, "x-expires": 5})},
		"first only":  {406, "inequivalent arg 'x-dead-letter-exchange'", declare("quorum", amqp.Table{"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-message-ttl": 1, "x-delivery-limit": 2})},
		"other type":  {406, "inequivalent arg 'x-queue-type' for queue 'quorum' in vhost '/': received 'classic' but current is 'quorum'", declare("quorum", nil)},
		"durable": {406, "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'", func(_ *stage, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare("q", false, false, false, false, nil)
			return err
		}},
		"exclusive": {405, "cannot obtain exclusive access to locked queue 'q' in vhost '/'", func(_ *stage, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare("q", true, false, true, false, nil)
			return err
		}},
		"another's": {405, "cannot obtain exclusive access to locked queue 'mine'", func(s *stage, _ *amqp.Channel) error {
			return consume("mine", false, false, nil)(s, s.channelOf(s.dial()))
		}},
		"transient": {406, "invalid property 'non-durable' for queue 'n' in vhost '/'", func(_ *stage, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare("n", false, false, false, false, amqp.Table{"x-queue-type": "quorum"})
			return err
		}},
		"nameless":    {406, "Cannot declare a server-named queue for type rabbit_quorum_queue", declare("", amqp.Table{"x-queue-type": "quorum"})},
		"no queue":    {404, "NOT_FOUND - no queue 'none' in vhost '/'", consume("none", false, false, nil)},
		"no declared": {404, "no previously declared queue", consume("", false, false, nil)},
		"priority":    {406, `invalid arg 'x-priority' for queue 'q' in vhost '/': "expected integer, got longstr"`, consume("q", false, false, amqp.Table{"x-priority": "1"})},
		"timeout":     {406, "invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/' of queue type rabbit_classic_queue", consume("q", false, false, amqp.Table{"x-consumer-timeout": 1})},
		"in use":      {403, "queue 'busy' in vhost '/' in exclusive use", consume("busy", false, true, nil)},
		"delete in use": {406, "queue 'busy' in vhost '/' in use", func(_ *stage, ch *amqp.Channel) error {
			_, err := ch.QueueDelete("busy", true, false, false)
			return err
		}},
		"delete if empty": {540, "queue.delete operations with if-empty flag set are not supported by quorum queues", func(_ *stage, ch *amqp.Channel) error {
			_, err := ch.QueueDelete("quorum", false, true, false)
			return err
		}},
		"kind":          {406, "unknown exchange type 'nope'", exchange("x", "nope", true, nil)},
		"kind differs":  {406, "inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'fanout' but current is 'direct'", exchange("amq.direct", "fanout", true, nil)},
		"default":       {403, "operation not permitted on the default exchange", exchange("", "direct", true, nil)},
		"bind":          {404, "no exchange 'none' in vhost '/'", func(_ *stage, ch *amqp.Channel) error { return ch.QueueBind("q", "", "none", false, nil) }},
		"delete system": {403, "deletion of system exchange 'amq.topic' in vhost '/' not allowed", func(_ *stage, ch *amqp.Channel) error { return ch.ExchangeDelete("amq.topic", false, false) }},
		"no exchange":   {404, "no exchange 'none' in vhost '/'", publish("none", false, amqp.Publishing{})},
		"immediate":     {540, "NOT_IMPLEMENTED - immediate=true", publish("", true, amqp.Publishing{})},
		"expiration":    {406, "invalid expiration 'abc': no_integer", publish("", false, amqp.Publishing{Expiration: "abc"})},
		"leftover":      {406, `invalid expiration '1.5': {leftover_string,".5"}`, publish("", false, amqp.Publishing{Expiration: "1.5"})},
		"past":          {406, "invalid expiration '-1': {value_negative,-1}", publish("", false, amqp.Publishing{Expiration: "-1"})},
		"user":          {406, "user_id property set to 'other' but authenticated user was 'guest'", publish("", false, amqp.Publishing{UserId: "other"})},
		"CC":            {406, `invalid message: {unacceptable_type_in_header,"CC",longstr}`, publish("", false, amqp.Publishing{Headers: amqp.Table{"CC": "q"}})},
		"size":          {406, "message size 1001 is larger than configured max size 1000", publish("", false, amqp.Publishing{Body: make([]byte, 1001)})},
		"frame":         {501, "FRAME_ERROR - type 2, all octets = <<>>: {frame_too_large,200022,131064}", publish("", false, amqp.Publishing{Headers: amqp.Table{"": string(make([]byte, 199998))}})},
		"tag":           {406, "unknown delivery tag 77", func(_ *stage, ch *amqp.Channel) error { return ch.Ack(77, false) }},
		"recover":       {540, "requeue=false", func(s *stage, ch *amqp.Channel) error { return s.recover(ch, false) }},
		"prefetch size": {540, "prefetch_size!=0 (100)", func(_ *stage, ch *amqp.Channel) error { return ch.Qos(1, 100, false) }},
		"flow":          {540, "active=false", func(_ *stage, ch *amqp.Channel) error { return ch.Flow(false) }},
		"reply, ack":    {406, "reply consumer cannot acknowledge", consume(replyName, false, false, nil)},
		"reply, none":   {406, "fast reply consumer does not exist", publish("", false, amqp.Publishing{ReplyTo: replyName})},
		"commit":        {406, "channel is not transactional", func(_ *stage, ch *amqp.Channel) error { return ch.TxCommit() }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.MaxMessageSize = 1000
			s := newStageWith(t, cfg)
			s.classic("q", nil)
			s.classic("ttl", amqp.Table{"x-message-ttl": 60000})
			s.quorum("quorum", nil)
			s.classic("busy", nil)
			s.consume(s.channel(), "busy", nil)
			_, err := s.ch.QueueDeclare("mine", false, false, true, false, nil)
			s.must(err)

			conn := s.dial()
			ch := s.channelOf(conn)
			gone, closed := conn.NotifyClose(make(chan *amqp.Error, 1)), ch.NotifyClose(make(chan *amqp.Error, 1))
			err = c.do(s, ch)
			if name != "another's" {
				e := next(t, closed)
				expectError(t, e, c.code, c.text)
				err = e
			}
			expectError(t, err, c.code, c.text)
			if c.code >= 500 {
				_ = next(t, gone)
			} else if conn.IsClosed() {
				t.Error("the connection is closed, too")
			}
		})
	}
}

func TestReplyTextsAreTruncated(t *testing.T) {
	s := newStage(t)
	name := strings.Repeat("x", 250)
	_, err := s.ch.QueueDeclarePassive(name, true, false, false, false, nil)
	expectError(t, err, 404, "NOT_FOUND - no queue 'xxx")
	var e *amqp.Error
	if errors.As(err, &e); len(e.Reason) != 255 || !strings.HasSuffix(e.Reason, "xxx...") {
		t.Errorf("%d bytes: %s", len(e.Reason), e.Reason)
	}
}

func TestUnusualButValidRequestsPass(t *testing.T) {
	s := newStage(t)
	s.classic("q", amqp.Table{"x-foo": "unknown", "x-message-ttl": int32(5)})
	s.classic("q", amqp.Table{"x-message-ttl": int64(5), "x-queue-type": "classic"}) // unknown arguments are not compared
	s.quorum("d", amqp.Table{"x-delivery-limit": "3", "x-overflow": "reject-publish-dlx"})
	s.classic("lazy", amqp.Table{"x-queue-mode": "lazy"})
	n, err := s.ch.QueueDelete("none", false, false, false)
	s.must(err)
	s.must(s.ch.ExchangeDelete("none", false, false))
	s.must(s.ch.QueueUnbind("q", "none", "amq.direct", nil))
	s.must(s.ch.Cancel("none", false))
	s.must(s.ch.Qos(1, 0, true))
	s.must(s.ch.Ack(0, true))
	s.must(s.ch.Flow(true))
	q, err := s.ch.QueueDeclare("", false, true, true, false, nil)
	s.must(err)
	if n != 0 || len(q.Name) != len("amq.gen-")+22 {
		t.Errorf("deleted %d, named %q", n, q.Name)
	}
	s.sync()
}

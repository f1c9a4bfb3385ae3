package producer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/logs"
)

// warnings counts log records.
type warnings struct {
	slog.Handler
	at []time.Time
}

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	w.at = append(w.at, r.Time)
	return nil
}

func TestAProducerThatCannotOpenAChannelWarnsAtOnceAndThenRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &warnings{Handler: slog.Default().Handler()}
		cfg := Config{Logger: slog.New(log)}.withDefaults()
		p := &Producer{cfg: cfg, window: newWindow(cfg), ctx: t.Context()}
		start, tries := time.Now(), 0
		for time.Since(start) < time.Hour {
			p.pause(new(amqp.Connection), amqp.ErrChannelMax)
			tries++
		}
		if tries < 3600 || tries > 3610 {
			t.Errorf("%d tries in an hour, want one each second", tries)
		}
		if n := len(log.at); n < 59 || n > 61 || log.at[0] != start {
			t.Errorf("%d warnings in an hour, want the first one at once and one each minute", n)
		}
		for i, at := range log.at[1:] {
			if pause := at.Sub(log.at[i]); pause < logs.Interval || pause > logs.Interval+longestPause {
				t.Errorf("warning %d comes %v after the one before", i+1, pause)
			}
		}
		if why := p.window.explain(context.Canceled); !errors.Is(why, amqp.ErrChannelMax) || !strings.Contains(why.Error(), "channel_max") {
			t.Errorf("publishers are told %v", why)
		}
	})
}

// away is a Connection without a connection.
type away struct{ failure error }

func (a away) PublishConnection(ctx context.Context) (*amqp.Connection, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (a away) Err() error { return a.failure }

func TestPublishNamesTheLastFailureOfTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := errors.New("vhost 'x' not found")
		p, err := New(away{failure}, Config{MaxInFlight: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = p.Close(ended)
		}()
		r, err := p.PublishAsync(t.Context(), "", "k", amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func(context.Context) error{
			"Publish":      func(ctx context.Context) error { return p.Publish(ctx, "", "k", amqp.Publishing{}) },
			"PublishAsync": func(ctx context.Context) error { _, err := p.PublishAsync(ctx, "", "k", amqp.Publishing{}); return err },
			"Wait":         r.Wait,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, failure) {
				t.Errorf("%s: %v, want the last failure of the connection", name, err)
			}
			cancel()
		}
	})
}

func TestErrorsAreOneLineOfPrintableText(t *testing.T) {
	const evil = "a\nb\x1b[31m\x00\xff"
	r := receiptOf(t, Message{Exchange: evil, Key: evil, Publishing: amqp.Publishing{MessageId: evil}})
	reason := &amqp.Error{Code: 403, Reason: evil, Server: true}
	for _, err := range []error{
		&ReturnedError{Code: 312, Text: evil, Exchange: evil, Key: evil},
		r.describe(ErrNotPublished, explain(reason, r)),
		r.describe(ErrUnconfirmed, explainOpening(reason)),
		explain(&amqp.Error{Code: 406, Reason: evil}, receiptOf(t, Message{Publishing: amqp.Publishing{UserId: evil}})),
		check1(Message{Exchange: evil}), check1(Message{Publishing: amqp.Publishing{ContentType: evil}}),
		check1(Message{Publishing: amqp.Publishing{Headers: amqp.Table{evil: 1}}}), check1(Message{Publishing: amqp.Publishing{Expiration: evil}}),
	} {
		if err == nil || strings.ContainsAny(err.Error(), "\n\x1b\x00") || !utf8.ValidString(err.Error()) {
			t.Errorf("%q", err)
		}
	}
}

func check1(m Message) error {
	_, err := check(&m, 1000)
	return err
}

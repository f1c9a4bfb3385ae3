package retry_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

func TestPlanReportsEveryFaultAtOnce(t *testing.T) {
	ok := retry.Schedule(s)
	for name, c := range map[string]struct {
		cfg    retry.Config
		fields []string
	}{
		"good":         {retry.Config{Queue: "q", Policy: ok}, nil},
		"nothing":      {retry.Config{}, []string{"Queue", "Policy"}},
		"policy":       {retry.Config{Queue: "q", Policy: retry.Schedule(0)}, []string{"Policy.Delays[0]"}},
		"exponential":  {retry.Config{Queue: "q", Policy: retry.Exponential(time.Minute, s)}, []string{"Policy.max"}},
		"names":        {retry.Config{Queue: "q\n", Policy: ok, Source: &topology.Queue{Name: "other"}}, []string{"Queue", "Source.Name"}},
		"too long":     {retry.Config{Queue: strings.Repeat("q", 250), Policy: ok}, []string{"Queues[0]", "Queues[1]"}},
		"rules":        {retry.Config{Queue: "q", Policy: ok, Rules: []retry.Rule{{}, retry.OnError(nil, retry.Park), retry.OnError(errBoom, nil), retry.OnError(errBoom, retry.Policy{}), retry.OnError(errBoom, retry.Schedule(0))}}, []string{"Rules[0]", "Rules[0]", "Rules[1]", "Rules[2]", "Rules[3].Policy", "Rules[4].Policy.Delays[0]"}},
		"hasty":        {retry.Config{Queue: "q", Policy: ok, MoveTimeout: time.Millisecond}, []string{"MoveTimeout"}},
		"negative":     {retry.Config{Queue: "q", Policy: ok, MaxInProcessDelay: -1, MoveTimeout: -1}, []string{"MaxInProcessDelay", "MoveTimeout"}},
		"held forever": {retry.Config{Queue: "q", Policy: ok.MaxAttempts(math.MaxInt), MaxInProcessDelay: s}, []string{"MaxInProcessDelay"}},
		"held long":    {retry.Config{Queue: "q", Policy: retry.Schedule(6*time.Minute, 5*time.Minute), MaxInProcessDelay: time.Hour}, []string{"MaxInProcessDelay"}},
		"a stream":     {retry.Config{Queue: "q", Policy: ok, Source: &topology.Queue{Type: topology.Stream}}, []string{"Source.Type"}},
		"a ring":       {retry.Config{Queue: "q", Policy: ok, Source: &topology.Queue{MessageTTL: s, DeadLetter: &topology.DeadLetter{RoutingKey: "q.wait.1s"}}}, []string{"Queues[0]"}},
		"many queues":  {retry.Config{Queue: "q", Policy: retry.Schedule(durations(65)...)}, []string{"Policy"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := retry.New(c.cfg)
			if (plan == nil) != (len(c.fields) > 0) {
				t.Errorf("a plan: %v", plan != nil)
			}
			var got []string
			for _, f := range fieldErrors(err) {
				got = append(got, strings.SplitN(f.Field, " ", 2)[0])
				if strings.Count(f.Error(), "retry: ") > 1 {
					t.Errorf("%v has the package's name twice", f)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.fields) {
				t.Errorf("faults in %q, want %q: %v", got, c.fields, err)
			}
		})
	}
}

func durations(n int) (ds []time.Duration) {
	for i := range n {
		ds = append(ds, time.Duration(i+1)*s)
	}
	return ds
}

func fieldErrors(err error) (all []*amqperr.FieldError) {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range several.Unwrap() {
			all = append(all, fieldErrors(e)...)
		}
		return all
	}
	var f *amqperr.FieldError
	if errors.As(err, &f) {
		all = append(all, f)
	}
	return all
}

func TestTopologyHasAQueueForEachTier(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  retry.Config
		want []string
	}{
		"tiers once":       {retry.Config{Policy: retry.Schedule(time.Hour, s, 90*s, s)}, []string{"q.wait.1s 1s", "q.wait.1m30s 1m30s", "q.wait.1h 1h0m0s"}},
		"tiers of rules":   {retry.Config{Policy: retry.Schedule(s), Rules: []retry.Rule{retry.OnError(errBoom, retry.Schedule(s, 250*time.Millisecond))}}, []string{"q.wait.250ms 250ms", "q.wait.1s 1s"}},
		"in the process":   {retry.Config{Policy: retry.Schedule(s, time.Minute), MaxInProcessDelay: s}, []string{"q.wait.1m 1m0s"}},
		"full jitter":      {retry.Config{Policy: retry.Schedule(4*s, 8*s).Jitter(1)}, []string{"q.wait.1s 1s", "q.wait.2s 2s", "q.wait.3s 3s", "q.wait.4s 4s", "q.wait.6s 6s", "q.wait.8s 8s"}},
		"half jitter":      {retry.Config{Policy: retry.Schedule(8 * s).Jitter(0.5)}, []string{"q.wait.5s 5s", "q.wait.6s 6s", "q.wait.7s 7s", "q.wait.8s 8s"}},
		"jitter under 1ms": {retry.Config{Policy: retry.Schedule(2 * time.Millisecond).Jitter(1)}, []string{"q.wait.1ms 1ms", "q.wait.2ms 2ms"}},
		"out of reach":     {retry.Config{Policy: retry.Schedule(s, time.Hour).MaxAge(time.Minute)}, []string{"q.wait.1s 1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Queue = "q"
			topo := planned(t, c.cfg).Topology()
			var got []string
			for _, q := range topo.Queues[:len(topo.Queues)-1] {
				got = append(got, fmt.Sprint(q.Name, " ", q.MessageTTL))
				if q.Overflow != topology.RejectPublish || *q.DeadLetter != (topology.DeadLetter{RoutingKey: "q", Strategy: topology.AtLeastOnce}) || q.Type != "" {
					t.Errorf("%+v does not dead-letter to q at least once", q)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("wait queues %q, want %q", got, c.want)
			}
			parked := topo.Queues[len(topo.Queues)-1]
			if parked.Name != "q.parked" || parked.DeliveryLimit == nil || *parked.DeliveryLimit != topology.Unlimited || parked.DeadLetter != nil || parked.MessageTTL != 0 ||
				parked.Overflow != topology.RejectPublish {
				t.Errorf("parking queue %+v", parked)
			}
		})
	}
}

func TestJitterChoosesAmongAllItsQueues(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(8 * s).Jitter(1)}, func(b *bench) {
		var got calls
		b.run(got.fail(errBoom))
		start := time.Now()
		for range 100 {
			b.publish(amqpMessage("m"))
		}
		if n := len(b.messages("orders.parked", time.Minute)); n != 100 {
			t.Errorf("%d of 100 are parked", n)
		}
		at := map[time.Duration]int{}
		for _, called := range got.at[100:] {
			at[called.Sub(start).Round(s)]++
		}
		for _, d := range []time.Duration{2 * s, 4 * s, 6 * s, 8 * s} {
			if at[d] < 5 { // of 25 expected: once in a million runs
				t.Errorf("%d of 100 messages were delivered after %v: %v", at[d], d, at)
			}
		}
	})
}

func ExamplePlan_String() {
	plan, err := retry.New(retry.Config{
		Queue:             "orders",
		Policy:            retry.Schedule(time.Second, 10*time.Second, time.Minute),
		Rules:             []retry.Rule{retry.OnError(errStock, retry.Schedule(time.Hour)), retry.OnType[*amqperr.FieldError](retry.Discard)},
		MaxInProcessDelay: time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(plan)
	// Output:
	// retry plan for queue orders
	//   out of stock: 1h0m0s, then park
	//   *amqperr.FieldError: discard
	//   permanent, rejected: park at once
	//   any other error: 1s, 10s, 1m0s, then park
	//
	//   the worker waits for delays up to 1s
	//   orders ──▶ orders.wait.10s ── 10s ──▶ orders
	//          ──▶ orders.wait.1m ── 1m ──▶ orders
	//          ──▶ orders.wait.1h ── 1h ──▶ orders
	//          ──▶ orders.parked
}

func TestMessagesThatRabbitMQDeadLettersFromTheSourceQueueAreParked(t *testing.T) {
	parked := func(strategy string) *topology.DeadLetter {
		return &topology.DeadLetter{RoutingKey: "q.parked", Strategy: strategy}
	}
	own := &topology.DeadLetter{Exchange: "dlx"}
	for name, c := range map[string]struct {
		source, want topology.Queue
	}{
		"plain":              {topology.Queue{}, topology.Queue{Overflow: topology.RejectPublish, DeadLetter: parked(topology.AtLeastOnce)}},
		"its own target":     {topology.Queue{DeadLetter: own}, topology.Queue{DeadLetter: own}},
		"it drops its head":  {topology.Queue{MaxLength: 9}, topology.Queue{MaxLength: 9, DeadLetter: parked("")}},
		"it refuses":         {topology.Queue{MaxLength: 9, Overflow: topology.RejectPublish}, topology.Queue{MaxLength: 9, Overflow: topology.RejectPublish, DeadLetter: parked(topology.AtLeastOnce)}},
		"by an argument":     {topology.Queue{Arguments: amqp.Table{"x-max-length": 9}}, topology.Queue{Arguments: amqp.Table{"x-max-length": 9}, DeadLetter: parked("")}},
		"classic":            {topology.Queue{Type: topology.Classic}, topology.Queue{Type: topology.Classic, DeadLetter: parked("")}},
		"with its name":      {topology.Queue{Name: "q", Type: topology.Classic}, topology.Queue{Type: topology.Classic, DeadLetter: parked("")}},
		"with an own policy": {topology.Queue{Overflow: "drop-head"}, topology.Queue{Overflow: "drop-head", DeadLetter: parked("")}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Name = "q"
			got := planned(t, retry.Config{Queue: "q", Policy: retry.Schedule(s), Source: &c.source}).Topology().Queues[0]
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("declared %+v, want %+v", got, c.want)
			}
		})
	}
}

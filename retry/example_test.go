package retry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/amqpkit/amqpkit/retry"
)

func Example() {
	policy := retry.Schedule(10*time.Second, time.Minute).MaxAge(time.Hour)
	fmt.Println(policy)
	age := time.Duration(0)
	for attempt := 1; ; attempt++ {
		delay, ok := policy.Next(attempt, age)
		if !ok {
			fmt.Printf("attempt %d failed: park\n", attempt)
			break
		}
		fmt.Printf("attempt %d failed: retry in %v\n", attempt, delay)
		age += delay
	}
	// Output:
	// 10s, 1m0s, then park; max age 1h0m0s
	// attempt 1 failed: retry in 10s
	// attempt 2 failed: retry in 1m0s
	// attempt 3 failed: park
}

func ExampleExponential() {
	fmt.Println(retry.Exponential(time.Second, time.Minute))
	fmt.Println(retry.Exponential(time.Second, time.Minute).MaxAttempts(20).Jitter(1))
	// Output:
	// 1s, 2s, 4s, 8s, 16s, 32s, 1m0s, then park
	// 1s, 2s, 4s, 8s, 16s, 32s, 1m0s ×13, then park; jitter 1
}

func ExampleNew() {
	_, err := retry.New(retry.Config{Queue: "orders", Policy: retry.Schedule(time.Second, -time.Minute).MaxAttempts(0)})
	fmt.Println(err)
	// Output:
	// retry: Policy.Delays[1]: -1m0s is not positive; write at least a millisecond
	// retry: Policy.MaxAttempts: 0 is less than 1, the first delivery; write 1 for no retry, or more
}

func ExamplePolicy_BackOff() {
	ping := func() error { return errors.New("no answer") }
	policy := retry.Exponential(time.Millisecond, 4*time.Millisecond)
	err := backoff.RetryNotify(ping, policy.BackOff(), func(err error, delay time.Duration) {
		fmt.Printf("%v, again in %v\n", err, delay)
	})
	fmt.Println("gave up:", err)
	// Output:
	// no answer, again in 1ms
	// no answer, again in 2ms
	// no answer, again in 4ms
	// gave up: no answer
}

// Rules select errors by a function and by a value. The policy of the plan applies to all other errors.
func ExampleWhen() {
	busy := retry.When("database is busy", func(err error) bool {
		return strings.Contains(err.Error(), "deadlock detected")
	}, retry.Schedule(time.Second, time.Second))
	late := retry.Discard // or retry.Park, or a Policy
	plan, err := retry.New(retry.Config{
		Queue:  "orders",
		Policy: retry.Schedule(time.Minute),
		Rules:  []retry.Rule{busy, retry.OnError(context.DeadlineExceeded, late)},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan)
	// Output:
	// retry plan for queue orders
	//   database is busy: 1s, 1s, then park
	//   context deadline exceeded: discard
	//   permanent, rejected: park at once
	//   any other error: 1m0s, then park
	//
	//   orders ──▶ orders.wait.1s ── 1s ──▶ orders
	//          ──▶ orders.wait.1m ── 1m ──▶ orders
	//          ──▶ orders.parked
}

package soak

// A Record is one line of a history: one event, as one source saw it. Exactly one field besides T is set.
type Record struct {
	// T is the time in nanoseconds since the start of the history, on a monotonic clock.
	T int64 `json:"t"`

	Settings *Settings `json:"settings,omitempty"` // the first record: the configuration of the run
	Publish  *Publish  `json:"publish,omitempty"`  // just before a publish
	Outcome  *Outcome  `json:"outcome,omitempty"`  // the outcome of a publish
	Try      *Try      `json:"try,omitempty"`      // just before an attempt on the retry route returns
	Handled  *Handled  `json:"handled,omitempty"`  // just before a handler returns
	Stop     *Stop     `json:"stop,omitempty"`     // just before a consumer's Run is stopped
	Call     *Call     `json:"call,omitempty"`     // a call with a deadline has returned
	Closed   *Closed   `json:"closed,omitempty"`   // a client closes its socket
	Wire     *Wire     `json:"wire,omitempty"`     // a proxy has forwarded a frame, or a link was opened or closed
	Fault    *Fault    `json:"fault,omitempty"`    // a fault starts or ends
	Sample   *Sample   `json:"sample,omitempty"`   // resource usage of the process and the broker
	Queue    *Queue    `json:"queue,omitempty"`    // message counts of a queue after the run
	End      *End      `json:"end,omitempty"`      // the last record: the history is complete
}

// Settings are the configuration of a run. They are part of the history so that the judge needs no other input.
// Durations are in nanoseconds.
type Settings struct {
	Seed     uint64         `json:"seed"`
	Nodes    int            `json:"nodes"`
	Broker   string         `json:"broker"`
	Duration int64          `json:"duration"` // minimum duration of the phase with faults
	Minimums map[string]int `json:"minimums"` // number of faults that a valid run needs, by kind
	Rate     int            `json:"rate"`     // confirmed messages per second that a valid run needs while faults are injected

	MaxInFlight    int   `json:"max_in_flight"` // per producer
	ConfirmTimeout int64 `json:"confirm_timeout"`
	Heartbeat      int64 `json:"heartbeat"`
	Reconnect      int64 `json:"reconnect"` // maximum pause between two dials plus the timeout of a dial

	Clients   map[string]Client   `json:"clients"`   // permanent clients, by connection name
	Consumers map[string]Consumer `json:"consumers"` // by consumer tag without the number of the Run and the random suffix
	Retry     Retry               `json:"retry"`
}

// Retry describes how failed messages of one queue are retried and parked.
type Retry struct {
	Queue  string `json:"queue"`
	Waits  []Wait `json:"waits"`  // delay after the first failure, the second, and so on
	Parked string `json:"parked"` // the parking queue
	Enough int    `json:"enough"` // number of retried messages, and of parked messages, that a valid run needs
}

// A Wait is the delay between two attempts.
type Wait struct {
	Queue string `json:"queue"` // wait queue; empty for a wait in the process
	Delay int64  `json:"delay"`
}

// A Client is a connection of the workload.
type Client struct {
	Publishes bool `json:"publishes"`
	Consumes  bool `json:"consumes"`
}

// A Consumer is a consumer of the workload.
type Consumer struct {
	Queue    string `json:"queue"`
	Prefetch int    `json:"prefetch"`
	Dead     bool   `json:"dead,omitempty"` // its queue receives dead-lettered messages
}

// Publish describes a message just before it is published. The message body starts with the ID.
type Publish struct {
	ID       string `json:"id"`
	Client   string `json:"client"`
	Route    string `json:"route"`
	Deadline int64  `json:"deadline"` // of its ctx
	Sum      string `json:"sum"`      // of the body

	Once   bool   `json:"once,omitempty"`   // its producer does not resend
	Hasty  bool   `json:"hasty,omitempty"`  // its ctx is too short on purpose
	Batch  bool   `json:"batch,omitempty"`  // its outcome is reported together with the rest of the batch
	Doomed bool   `json:"doomed,omitempty"` // a fault may delete its queue, so the message does not count as lost
	Order  string `json:"order,omitempty"`  // sequence of the message, if any
	Seq    int    `json:"seq,omitempty"`    // position in the sequence

	Fails int    `json:"fails,omitempty"` // on the retry route: number of attempts that fail
	Why   string `json:"why,omitempty"`   // reason for parking after the last failure; empty if the next attempt succeeds
	After int64  `json:"after,omitempty"` // delay that the first failure requests
}

// Values of Outcome.What.
const (
	Confirmed    = "confirmed"
	Returned     = "returned"
	Nacked       = "nacked"
	Unconfirmed  = "unconfirmed"
	NotPublished = "not published"
)

// Outcome is the outcome of a publish, as the producer reported it.
type Outcome struct {
	ID        string `json:"id"`
	What      string `json:"what"`
	MessageID string `json:"message_id,omitempty"` // if it differs from the ID
	Blocked   bool   `json:"blocked,omitempty"`    // the broker blocked publishers
	Err       string `json:"err,omitempty"`
}

// Values of Handled.Result and Try.Result.
const (
	OK      = "ok"
	Fail    = "fail" // error or panic
	Reject  = "reject"
	Requeue = "requeue"

	Moved       = "moved"       // Handled only: the handler failed and the message was moved to a wait or parking queue
	Interrupted = "interrupted" // Try only: Config.DrainTimeout elapsed, which does not count as a failure
)

// Try is one attempt on the retry route, inside the retry middleware. A Handled record for its delivery follows when
// the middleware has returned.
type Try struct {
	ID          string `json:"id"` // from the body
	Began       int64  `json:"began"`
	Attempt     int    `json:"attempt"`
	Redelivered bool   `json:"redelivered,omitempty"`
	Result      string `json:"result"`
}

// Handled is a delivery and the result of its handler.
type Handled struct {
	ID          string `json:"id"` // from the body
	Began       int64  `json:"began"`
	Consumer    string `json:"consumer"` // full consumer tag, unique to the subscription
	Tag         uint64 `json:"tag"`      // delivery tag
	Redelivered bool   `json:"redelivered,omitempty"`
	MessageID   string `json:"message_id"`
	Sum         string `json:"sum"` // of the body
	Result      string `json:"result"`

	Stayed   bool   `json:"stayed,omitempty"`   // the move to its wait or parking queue failed
	Unmoved  int    `json:"unmoved,omitempty"`  // number of failed attempts to move it
	Attempts int    `json:"attempts,omitempty"` // failed attempts, from the message headers
	Why      string `json:"why,omitempty"`      // reason for parking, from the message headers
}

// Stop reports that a consumer's Run is about to be stopped. Its consumer tags start with the name of the Run,
// NAME-RUN.
type Stop struct {
	Run string `json:"run"`
}

// ConsumerRun is the Call.What of a consumer's Run. Its Began is the time when the Run was stopped.
const ConsumerRun = "run of a consumer"

// Call is a completed call that a ctx bounds.
type Call struct {
	What     string `json:"what"`
	Who      string `json:"who"` // name of the client or of the Run
	Began    int64  `json:"began"`
	Deadline int64  `json:"deadline"`
	Unasked  bool   `json:"unasked,omitempty"` // the Run returned although it was not stopped
	Err      string `json:"err,omitempty"`
}

// Closed reports that a client closed its socket.
type Closed struct {
	Addr string `json:"addr"` // local address of the client
}

// Wire is an amqptest.Event of the proxy in front of a node. T is when the proxy started to forward the frame.
type Wire struct {
	Node        int    `json:"node"`
	Link        int    `json:"link"`
	Client      string `json:"client,omitempty"` // connection name, if known
	Addr        string `json:"addr,omitempty"`   // local address of the client; only for LinkOpened
	Event       string `json:"event"`            // amqptest.Event.Kind as text
	FromBroker  bool   `json:"from_broker,omitempty"`
	Channel     uint16 `json:"channel,omitempty"`
	Tag         uint64 `json:"tag,omitempty"`
	Stray       bool   `json:"stray,omitempty"`
	Requeue     bool   `json:"requeue,omitempty"`
	Redelivered bool   `json:"redelivered,omitempty"`
	MessageID   string `json:"message_id,omitempty"`
	Key         string `json:"key,omitempty"` // routing key
	Consumer    string `json:"consumer,omitempty"`
	Code        int    `json:"code,omitempty"`
	Text        string `json:"text,omitempty"`
}

// Fault is the start or the end of a fault.
type Fault struct {
	N       int      `json:"n"` // number of the fault, the same in both records
	Kind    string   `json:"kind"`
	Clients []string `json:"clients"`          // clients whose links are affected
	Outage  bool     `json:"outage,omitempty"` // no node accepts their connections during the fault
	Nodes   []int    `json:"nodes,omitempty"`  // nodes that are unavailable during the fault
	Deaf    bool     `json:"deaf,omitempty"`   // the affected clients receive nothing on their links during the fault
	Over    bool     `json:"over,omitempty"`   // set on the end record
	Err     string   `json:"err,omitempty"`    // the fault could not be injected or undone
}

// Sample is the resource usage at one time.
type Sample struct {
	When        string `json:"when,omitempty"` // "before" the first client, "after" the last one, otherwise empty
	Goroutines  int    `json:"goroutines"`     // goroutines of the toolkit and of amqp091-go
	Heap        uint64 `json:"heap"`           // bytes in use
	Sockets     int    `json:"sockets"`        // TCP sockets of the process
	Connections int    `json:"connections"`    // connections of the workload at the broker; -1 if unknown
	TimerDelay  int64  `json:"stall"`          // total delay of timers since the last sample
	Confirmed   int    `json:"confirmed"`      // so far
}

// Queue holds the message counts of a queue after the run. Every recorded queue must be empty.
type Queue struct {
	Name    string `json:"name"`
	Ready   int    `json:"ready"`
	Unacked int    `json:"unacked"`
}

// End marks the history as complete.
type End struct {
	Lasted int64  `json:"lasted"`        // duration of the phase with faults
	Err    string `json:"err,omitempty"` // why the run did not finish
}

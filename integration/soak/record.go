package soak

// A Record is one line of a history: what one party saw at one moment. Besides T exactly one field is set.
type Record struct {
	// T is when, in nanoseconds since the history began, on one monotonic clock.
	T int64 `json:"t"`

	Settings *Settings `json:"settings,omitempty"` // first: what the run is meant to be
	Publish  *Publish  `json:"publish,omitempty"`  // a message is about to be published
	Outcome  *Outcome  `json:"outcome,omitempty"`  // its publisher has been told
	Try      *Try      `json:"try,omitempty"`      // an attempt at a message of the retry route is about to return its result
	Handled  *Handled  `json:"handled,omitempty"`  // a handler is about to return its result
	Stop     *Stop     `json:"stop,omitempty"`     // a consumer's Run is told to end
	Call     *Call     `json:"call,omitempty"`     // a bounded call has returned
	Closed   *Closed   `json:"closed,omitempty"`   // a client closes a socket
	Wire     *Wire     `json:"wire,omitempty"`     // a proxy has handed it on
	Fault    *Fault    `json:"fault,omitempty"`    // a fault begins, or is over
	Sample   *Sample   `json:"sample,omitempty"`   // what the process and the broker hold
	Queue    *Queue    `json:"queue,omitempty"`    // what a queue holds at the end
	End      *End      `json:"end,omitempty"`      // last: nothing is missing
}

// Settings say what a run is meant to be, so that its records alone can be judged. Durations are in nanoseconds.
type Settings struct {
	Seed     uint64         `json:"seed"`
	Nodes    int            `json:"nodes"`
	Broker   string         `json:"broker"`
	Duration int64          `json:"duration"` // of the part with faults, at least
	Minimums map[string]int `json:"minimums"` // by kind of fault: as many make the run valid
	Rate     int            `json:"rate"`     // as many confirmed a second, while there are faults, make it valid

	MaxInFlight    int   `json:"max_in_flight"` // of one producer
	ConfirmTimeout int64 `json:"confirm_timeout"`
	Heartbeat      int64 `json:"heartbeat"`
	Reconnect      int64 `json:"reconnect"` // the longest pause between two attempts and the time limit of one, together

	Clients   map[string]Client   `json:"clients"`   // by connection name: those that are always there
	Consumers map[string]Consumer `json:"consumers"` // by the beginning of their tags, without the number of the Run
	Retry     Retry               `json:"retry"`
}

// Retry is the plan by which one queue's failed messages are retried and parked.
type Retry struct {
	Queue  string `json:"queue"`
	Waits  []Wait `json:"waits"`  // after the first failure, after the second, and so on
	Parked string `json:"parked"` // the parking queue
	Enough int    `json:"enough"` // as many messages retried, and as many parked, make the run valid
}

// A Wait is a delay between two attempts.
type Wait struct {
	Queue string `json:"queue"` // empty: in the process
	Delay int64  `json:"delay"`
}

// A Client is a connection of the workload, with what uses it.
type Client struct {
	Publishes bool `json:"publishes"`
	Consumes  bool `json:"consumes"`
}

// A Consumer is one of the workload's.
type Consumer struct {
	Queue    string `json:"queue"`
	Prefetch int    `json:"prefetch"`
	Dead     bool   `json:"dead,omitempty"` // its queue takes dead letters
}

// Publish is a message about to be published. Its body begins with its ID.
type Publish struct {
	ID       string `json:"id"`
	Client   string `json:"client"`
	Route    string `json:"route"`
	Deadline int64  `json:"deadline"` // of its ctx
	Sum      string `json:"sum"`      // of the body

	Once   bool   `json:"once,omitempty"`   // its producer is not to send it again
	Hasty  bool   `json:"hasty,omitempty"`  // its ctx is too short on purpose
	Batch  bool   `json:"batch,omitempty"`  // its outcome is told together with others
	Doomed bool   `json:"doomed,omitempty"` // a fault may delete its queue: it stands outside Lost
	Order  string `json:"order,omitempty"`  // the sequence it belongs to, if any
	Seq    int    `json:"seq,omitempty"`    // its place there

	Fails int    `json:"fails,omitempty"` // how many attempts fail, on the retry route
	Why   string `json:"why,omitempty"`   // it is parked after these; empty: the next attempt succeeds
	After int64  `json:"after,omitempty"` // the delay that its first failure asks for
}

// What can become of a message, as its publisher is told.
const (
	Confirmed    = "confirmed"
	Returned     = "returned"
	Nacked       = "nacked"
	Unconfirmed  = "unconfirmed"
	NotPublished = "not published"
)

// Outcome is what the publisher was told.
type Outcome struct {
	ID        string `json:"id"`
	What      string `json:"what"`
	MessageID string `json:"message_id,omitempty"` // if it is not the ID
	Blocked   bool   `json:"blocked,omitempty"`    // because the broker blocks publishers
	Err       string `json:"err,omitempty"`
}

// What a handler can do.
const (
	OK      = "ok"
	Fail    = "fail" // an error or a panic
	Reject  = "reject"
	Requeue = "requeue"

	Moved       = "moved"       // of a delivery: it failed, and is in its wait or parking queue
	Interrupted = "interrupted" // of a Try: by the end of the drain time, which is no failure
)

// Try is one attempt at a message, within the middleware that retries. Its delivery is Handled when that has returned.
type Try struct {
	ID          string `json:"id"` // from the body
	Began       int64  `json:"began"`
	Attempt     int    `json:"attempt"`
	Redelivered bool   `json:"redelivered,omitempty"`
	Result      string `json:"result"`
}

// Handled is a delivery with its handler's result.
type Handled struct {
	ID          string `json:"id"` // from the body
	Began       int64  `json:"began"`
	Consumer    string `json:"consumer"` // the whole tag, which no other subscription has
	Tag         uint64 `json:"tag"`      // delivery tag
	Redelivered bool   `json:"redelivered,omitempty"`
	MessageID   string `json:"message_id"`
	Sum         string `json:"sum"` // of the body
	Result      string `json:"result"`

	Stayed   bool   `json:"stayed,omitempty"`   // the way to its wait or parking queue failed
	Unmoved  int    `json:"unmoved,omitempty"`  // times that it could not be taken to another queue
	Attempts int    `json:"attempts,omitempty"` // that failed, as the message says
	Why      string `json:"why,omitempty"`      // it was parked, as the message says
}

// Stop tells that the Run of a consumer is told to end. Its tags began with the Run's name: NAME-RUN.
type Stop struct {
	Run string `json:"run"`
}

// ConsumerRun is the Call of a consumer's Run, from the moment when it is told to end.
const ConsumerRun = "run of a consumer"

// Call is a call that its ctx bounds, returned.
type Call struct {
	What     string `json:"what"`
	Who      string `json:"who"` // the client, or the name of the Run
	Began    int64  `json:"began"`
	Deadline int64  `json:"deadline"`
	Unasked  bool   `json:"unasked,omitempty"` // it returned by itself, although it was to go on
	Err      string `json:"err,omitempty"`
}

// Closed is a client's socket that it closes.
type Closed struct {
	Addr string `json:"addr"` // the client's own
}

// Wire is an amqptest.Event of the proxy in front of a node. T is when the proxy began to hand it on.
type Wire struct {
	Node        int    `json:"node"`
	Link        int    `json:"link"`
	Client      string `json:"client,omitempty"` // connection name, as far as known
	Addr        string `json:"addr,omitempty"`   // of the client, when the link is opened
	Event       string `json:"event"`            // amqptest's name of its kind
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

// Fault is the beginning or the end of a fault.
type Fault struct {
	N       int      `json:"n"` // the same for both
	Kind    string   `json:"kind"`
	Clients []string `json:"clients"`          // whose links it concerns
	Outage  bool     `json:"outage,omitempty"` // meanwhile no broker takes their connections
	Nodes   []int    `json:"nodes,omitempty"`  // that are not there meanwhile
	Deaf    bool     `json:"deaf,omitempty"`   // meanwhile its clients hear nothing on the links they have
	Over    bool     `json:"over,omitempty"`   // it is the end
	Err     string   `json:"err,omitempty"`    // it could not be done, or undone
}

// Sample is what is held at a moment.
type Sample struct {
	When        string `json:"when,omitempty"` // "before" the first client, "after" the last, empty between
	Goroutines  int    `json:"goroutines"`     // of the toolkit and of amqp091-go
	Heap        uint64 `json:"heap"`           // bytes in use
	Sockets     int    `json:"sockets"`        // TCP sockets of the process
	Connections int    `json:"connections"`    // of the workload's, as the broker sees it; -1: not known
	TimerDelay       int64  `json:"stall"`          // by how much timers were late, in sum, since the last sample
	Confirmed   int    `json:"confirmed"`      // so far
}

// Queue is what a queue holds when all is done, besides which no other queue has to be empty.
type Queue struct {
	Name    string `json:"name"`
	Ready   int    `json:"ready"`
	Unacked int    `json:"unacked"`
}

// End says that the history is complete.
type End struct {
	Lasted int64  `json:"lasted"`        // the part with faults, in nanoseconds
	Err    string `json:"err,omitempty"` // why the run could not be finished
}

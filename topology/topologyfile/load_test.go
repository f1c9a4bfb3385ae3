package topologyfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/topology"
	"github.com/amqpkit/amqpkit/topology/topologyfile"
)

func files(content map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range content {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestLoadMergesFilesOfBothFormats(t *testing.T) {
	fsys := files(map[string]string{
		"a.yaml": "exchanges:\n  orders: {type: topic}\nqueues:\n  billing: {max_length: 5}\n  audit:\n",
		"b.json": `{"queues": [
			{"name": "mail", "arguments": {"x-queue-type": "quorum", "x-expires": "7d"}},
			{"name": "billing", "arguments": {"x-queue-type": "quorum", "x-max-length": 5}}]}`,
		"c": "bindings: [{source: orders, queue: billing, key: '#'}]\nqueues: {billing: {max_length: 5, arguments: {x-new: 1}, allow_unknown_arguments: true}}",
		"d": "\n {\"queues\": [{\"name\": \"audit\", \"type\": \"quorum\"}]}",
		"e": "bindings:\n  - {key: '#', queue: billing, source: orders}\n",
	})
	got, err := topologyfile.Load(fsys, "a.yaml", "b.json", "d", "e")
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, topology.Topology{
		Exchanges: []topology.Exchange{{Name: "orders", Type: topology.Topic}},
		Queues:    []topology.Queue{{Name: "billing", MaxLength: 5}, {Name: "audit"}, {Name: "mail", Type: topology.Quorum, Expires: 7 * 24 * time.Hour}},
		Bindings:  []topology.Binding{{Source: "orders", Queue: "billing", Key: "#"}},
	})
}

func TestMergeKeepsThePlacesOfItsObjects(t *testing.T) {
	fsys := files(map[string]string{
		"a.yaml": "queues:\n  one: {arguments: {x-new: 1}}\n  two: {max_length: 1}\n",
		"b.yaml": "queues:\n  two: {max_length: 1}\n  three: {exclusive: true}\n  one: {arguments: {x-new: 1}, allow_unknown_arguments: true}\n",
		"c.json": "{\"queues\": [{\"name\": \"two\", \"type\": \"quorum\", \"arguments\": {\"x-max-length\": 1}},\n {\"name\": \"four\", \"type\": \"quorum\", \"durable\": false}]}",
	})
	want := `topology: b.yaml:3:22: queues.three.exclusive: RabbitMQ refuses it on a quorum queue; set type: classic, or leave it out
topology: c.json:2:48: queues[1].durable: RabbitMQ refuses it on a quorum queue; set type: classic, or leave it out`
	if _, err := topologyfile.Load(fsys, "a.yaml", "b.yaml", "c.json"); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestObjectsThatDifferNameBothPlaces(t *testing.T) {
	fsys := files(map[string]string{
		"a.yaml": "exchanges:\n  orders: {type: topic}\nqueues:\n  billing: {message_ttl: 1m}\n",
		"b.yaml": "queues:\n  audit: {}\n  billing:\n    message_ttl: 1h\n",
		"c.json": `{"exchanges": [{"name": "orders", "type": "fanout"}], "queues": [{"name": "billing", "type": "classic"}]}`,
	})
	want := `topology: b.yaml:3:3: queues.billing: is also declared at a.yaml:4:3, but x-message-ttl is 60000 there and 3600000 here; declare it once, or make both equal
topology: c.json:1:25: exchanges[0].name: is also declared at a.yaml:2:3, but type is "topic" there and "fanout" here; declare it once, or make both equal
topology: c.json:1:75: queues[0].name: is also declared at a.yaml:4:3, but x-message-ttl is 60000 there and none here; declare it once, or make both equal`
	if _, err := topologyfile.Load(fsys, "a.yaml", "b.yaml", "c.json"); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	_, err := topologyfile.Parse([]byte(`{"queues": [{"name": "a", "type": "quorum"}, {"name": "a", "type": "classic"}]}`))
	want = `topology: line 1, column 55: queues[1].name: is also declared at line 1, column 22, but x-queue-type is "quorum" there and "classic" here; declare it once, or make both equal`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestFaultsOfSeveralFilesAreReportedTogether(t *testing.T) {
	fsys := files(map[string]string{"a.yaml": "queue: {}", "b.json": "{", "c.yaml": "queues: {a: {type: x}}"})
	_, err := topologyfile.Load(fsys, "a.yaml", "b.json", "c.yaml")
	var got []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		file, ok := errors.AsType[*amqperr.FileError](e)
		if !ok {
			t.Fatalf("%v is not a FileError", e)
		}
		got = append(got, fmt.Sprintf("%s:%d:%d %s", file.File, file.Line, file.Column, file.Field))
	}
	if want := "a.yaml:1:1 queue, b.json:1:2 "; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := topologyfile.Load(fsys, "d.yaml"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "d.yaml") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := topologyfile.Load(fsys); err == nil {
		t.Error("Load without names succeeds")
	}
}

func TestVariablesAreReplacedWithinStrings(t *testing.T) {
	got, err := loader().Parse([]byte(`
queues:
  ${NAME}.${MISSING:-dev}:
    max_length: ${MAX}
    max_priority: ${PRIORITY:-5}
    type: classic
    message_ttl: ${TTL}
    single_active_consumer: ${ON}
    arguments: {x-expires: "${MAX}", x-max-length-bytes: "1${MAX}", x-queue-mode: "${MAX}", "${NAME}": "${EMPTY:-a b}", lines: "${LINES}"}
  "$${NAME} $${ $5 {}": {delivery_limit: "${LIMIT:-unlimited}", max_length: "${EMPTY:-7}", dead_letter: {routing_key: "${EMPTY}x"}}
bindings:
  - {source: "${NAME}", queue: "${NAME}.dev", key: "${EMPTY}"}
`))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, topology.Topology{
		Queues: []topology.Queue{
			{
				Name: "orders.dev", MaxLength: 1000, MaxPriority: 5, Type: topology.Classic, MessageTTL: 90 * time.Second, SingleActiveConsumer: true,
				Arguments: amqp.Table{"x-expires": int64(1000), "x-max-length-bytes": int64(11000), "x-queue-mode": "1000", "orders": "a b", "lines": "a: b\nc: ${NAME}"},
			},
			{Name: "${NAME} ${ $5 {}", DeliveryLimit: new(topology.Unlimited), MaxLength: 7, DeadLetter: &topology.DeadLetter{RoutingKey: "x"}},
		},
		Bindings: []topology.Binding{{Source: "orders", Queue: "orders.dev"}},
	})
	_, err = loader().Parse([]byte(`{"queues": [{"name": "${NAME}", "type": "classic", "durable": "${ON}", "arguments": {"x-max-length": "${MAX}", "x-message-ttl": "${TTL}", "x-max-age": "${TTL}"}}]}`))
	if err == nil || !strings.Contains(err.Error(), "x-max-age") {
		t.Errorf("x-max-age on a classic queue: %v", err)
	}
	got, err = loader().Parse([]byte(`{"queues": [{"name": "${NAME}", "type": "classic", "durable": "${ON}", "arguments": {"x-max-length": "${MAX}", "x-message-ttl": "${TTL}"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, topology.Topology{Queues: []topology.Queue{{Name: "orders", Type: topology.Classic, MaxLength: 1000, MessageTTL: 90 * time.Second}}})
}

func TestVariablesOfTheEnvironmentAreTheDefault(t *testing.T) {
	t.Setenv("TOPOLOGYFILE_NAME", "a")
	got, err := topologyfile.Parse([]byte("queues: {\"${TOPOLOGYFILE_NAME}\": {}}"))
	if err != nil || len(got.Queues) != 1 || got.Queues[0].Name != "a" {
		t.Errorf("Parse = %+v, %v", got, err)
	}
}

func TestTwoNamesThatBecomeEqualAreRefused(t *testing.T) {
	_, err := loader().Parse([]byte("queues:\n  orders: {}\n  ${NAME}: {}\n"))
	if want := "topology: line 3, column 3: queues.orders: is given twice, first in line 2; keep one of them"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDurationsBecomeMilliseconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "0.5h": 30 * time.Minute, "007d": 7 * 24 * time.Hour,
	} {
		form := "queues:\n  q: {message_ttl: " + text + ", arguments: {x-expires: " + text + ", x-consumer-timeout: 5}}\n"
		definitions := `{"queues": [{"name": "q", "arguments": {"x-queue-type": "quorum", "x-message-ttl": "` + text + `", "x-consumer-timeout": "` + text + `"}}]}`
		got, err := topologyfile.Parse([]byte(form))
		if err != nil || got.Queues[0].MessageTTL != want || got.Queues[0].Arguments["x-expires"] != want.Milliseconds() || got.Queues[0].Arguments["x-consumer-timeout"] != int64(5) {
			t.Errorf("%s: %+v, %v, want %v", text, got, err, want)
		}
		got, err = topologyfile.Parse([]byte(definitions))
		if err != nil || got.Queues[0].MessageTTL != want || got.Queues[0].Arguments["x-consumer-timeout"] != want.Milliseconds() {
			t.Errorf("%s in definitions: %+v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"1.5d", "1d-1h", "d", "1dd", "1000000d", "106752d", "999999d", "106751d24h", "1 h", "5", "0", "1h1d", "+1d"} {
		_, err := topologyfile.Parse([]byte("queues: {q: {type: stream, max_age: \"" + text + "\"}}"))
		if err == nil || !strings.Contains(err.Error(), "is not a duration") {
			t.Errorf("%q: %v, want it to be no duration", text, err)
		}
	}
	got, err := topologyfile.Parse([]byte(`{"queues": [{"name": "q", "type": "stream", "arguments": {"x-max-age": "1D"}}]}`))
	if err != nil || got.Queues[0].Arguments["x-max-age"] != "1D" {
		t.Errorf("x-max-age is the text of RabbitMQ: %+v, %v", got, err)
	}
}

func TestAnchorsAndMergeKeysAreResolved(t *testing.T) {
	got, err := topologyfile.Parse([]byte(`
queues:
  a: &limits {max_length: 5, overflow: drop-head}
  b: *limits
  c: {<<: *limits, max_length: 6}
  d: {<<: [*limits, &other {expires: 1h, max_length: 7}]}
  e:
    <<: *other
    arguments: &args {team: billing}
  f: {arguments: *args}
`))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, topology.Topology{Queues: []topology.Queue{
		{Name: "a", MaxLength: 5, Overflow: "drop-head"},
		{Name: "b", MaxLength: 5, Overflow: "drop-head"},
		{Name: "c", MaxLength: 6, Overflow: "drop-head"},
		{Name: "d", MaxLength: 5, Overflow: "drop-head", Expires: time.Hour},
		{Name: "e", MaxLength: 7, Expires: time.Hour, Arguments: amqp.Table{"team": "billing"}},
		{Name: "f", Arguments: amqp.Table{"team": "billing"}},
	}})
}

func TestAliasBombsAndDeepFilesAreRefused(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 12 {
		fmt.Fprintf(&bomb, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i, i, i, i, i, i)
	}
	for name, test := range map[string]struct{ data, want string }{
		"bomb":      {bomb.String(), "the aliases of the file stand for more than 100000 values; write the values out, or use fewer aliases within aliases"},
		"deep YAML": {"queues: {q: {arguments: {a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}}}", "is nested deeper than 20 levels; flatten it"},
		"deep JSON": {`{"queues": [{"arguments": ` + strings.Repeat(`{"a":`, 5000), "is nested deeper than 20 levels; flatten it"},
	} {
		_, err := topologyfile.Parse([]byte(test.data))
		if err == nil || !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

func TestByteOrderMarks(t *testing.T) {
	if got, err := topologyfile.Parse([]byte("\ufeffqueues: {a: }")); err != nil || len(got.Queues) != 1 {
		t.Errorf("YAML: %+v, %v", got, err)
	}
	for data, want := range map[string]string{
		"\ufeff{}":           "topology: line 1, column 1: the file begins with a byte order mark, which JSON does not allow; save it as UTF-8 without a byte order mark",
		"{\n  \"a\xff\": 1}": "topology: line 2, column 5: is not UTF-8; save the file as UTF-8 without a byte order mark",
	} {
		if _, err := topologyfile.Parse([]byte(data)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

package diagram

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/topology"
)

var update = flag.Bool("update", false, "write the expected files")

var (
	entity = regexp.MustCompile(`#(\d+);`)
	// The lines of both languages that this package writes, with the texts of the topology in quotes.
	mermaidLine = regexp.MustCompile(`^(flowchart LR|  accTitle: [\w ]+|  (n\d+\(\["T"\]\)|n\d+\["T"\]):::\w+|  empty\["T"\]|  n\d+ (-->|-\.->)(\|"T"\|)? n\d+|` +
		`  %% n\d+ to n\d+: [^"<>{}\n]+|  classDef \w+ [\w#:, -]+|  linkStyle [\d,]+ [\w#:, -]+)$`)
	mermaidQuoted = regexp.MustCompile(`"([^"<>*{}:|\\\x60\x00-\x1f]|<br/>)*"`)
	dotLine       = regexp.MustCompile(`^(digraph topology \{|  \w+=\w+|  \w+( -> \w+)? \[(\w+=[\w.]+ ?)+\]|\})$`)

	quotation = regexp.MustCompile(`"(\\.|[^"\\])*"`)
)

// formats are the three formats, each with a function that returns the texts which a reader of the output sees.
var formats = []struct {
	name string
	draw func(topology.Topology) string
	seen func(t *testing.T, output string) string
}{
	{"Mermaid", Mermaid, func(t *testing.T, output string) string {
		t.Helper()
		every(t, mermaidQuoted.ReplaceAllString(output, `"T"`), mermaidLine)
		return html.UnescapeString(entity.ReplaceAllString(output, "&#$1;"))
	}},
	{"DOT", DOT, func(t *testing.T, output string) string {
		t.Helper()
		var b strings.Builder
		for _, quoted := range quotation.FindAllString(output, -1) {
			text, err := strconv.Unquote(quoted)
			if err != nil {
				t.Errorf("%s: %v", quoted, err)
			}
			b.WriteString(strings.ReplaceAll(text, "&amp;", "&") + "\n")
		}
		every(t, quotation.ReplaceAllString(output, "Q"), dotLine)
		return b.String()
	}},
	{"SVG", SVG, parsed},
}

func every(t *testing.T, output string, line *regexp.Regexp) {
	t.Helper()
	for l := range strings.Lines(output) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("not in the language: %s", l)
		}
	}
}

// parsed decodes an XML document and returns its text.
func parsed(t *testing.T, document string) string {
	t.Helper()
	var b strings.Builder
	for d := xml.NewDecoder(strings.NewReader(document)); ; {
		token, err := d.Token()
		switch token := token.(type) {
		case xml.CharData:
			b.Write(token)
		case xml.StartElement:
			switch token.Name.Local {
			case "svg", "title", "desc", "g", "rect", "path", "circle", "text":
			default:
				t.Errorf("the picture has an element %s", token.Name.Local)
			}
		}
		if errors.Is(err, io.EOF) {
			return b.String()
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
}

// random returns a topology with a seed. It may be invalid.
func random(seed uint64, objects int) topology.Topology {
	r := rand.New(rand.NewPCG(seed, 17))
	var t topology.Topology
	exchanges := 1 + r.IntN(objects/2)
	exchange := func() string { return fmt.Sprintf("exchange.%d", r.IntN(exchanges+1)) }
	queue := func() string { return fmt.Sprintf("queue.%d", r.IntN(objects-exchanges+1)) }
	kinds := []topology.ExchangeType{topology.Direct, topology.Topic, topology.Fanout, topology.Headers, "x-random"}
	for i := range exchanges {
		x := topology.Exchange{Name: fmt.Sprintf("exchange.%d", i), Type: kinds[r.IntN(len(kinds))], Internal: r.IntN(5) == 0}
		if r.IntN(6) == 0 {
			x.AlternateExchange = exchange()
		}
		t.Exchanges = append(t.Exchanges, x)
	}
	for i := range objects - exchanges {
		q := topology.Queue{Name: fmt.Sprintf("queue.%d", i)}
		switch r.IntN(4) {
		case 0:
			q.DeadLetter = &topology.DeadLetter{RoutingKey: queue()}
		case 1:
			q.DeadLetter = &topology.DeadLetter{Exchange: exchange(), RoutingKey: strings.Repeat("failed.", r.IntN(30))}
		}
		if r.IntN(3) == 0 {
			q.MessageTTL = time.Minute
		}
		if r.IntN(3) == 0 {
			q.DeliveryLimit, q.MaxLength, q.MaxLengthBytes, q.SingleActiveConsumer = new(r.IntN(5)-1), 1000, 1<<20, true
		}
		t.Queues = append(t.Queues, q)
	}
	for range r.IntN(objects * 2) {
		b := topology.Binding{Source: exchange(), Key: strings.Repeat("key.", r.IntN(12)) + strconv.Itoa(r.IntN(9))}
		if r.IntN(4) == 0 {
			b.Exchange = exchange()
		} else {
			b.Queue = queue()
		}
		if r.IntN(8) == 0 {
			b.Arguments = amqp.Table{"x-match": "any", "format": strings.Repeat("pdf", r.IntN(20)), "pages": r.IntN(100)}
		}
		t.Bindings = append(t.Bindings, b)
	}
	return t
}

func TestOutputIsAsExpected(t *testing.T) {
	for file, got := range map[string]string{
		"testdata/orders.mmd":     Mermaid(orders(t)),
		"testdata/orders.dot":     DOT(orders(t)),
		"../../docs/topology.svg": SVG(orders(t)),
	} {
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
			t.Errorf("%s differs from the output; look at both, and run `go test ./topology/diagram -update`", file)
		}
	}
}

func TestFixturesAreValid(t *testing.T) {
	for name, top := range map[string]topology.Topology{"orders": orders(t), "shop": shop(t), "pair": pair()} {
		if err := top.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := shop(t); len(s.Exchanges)+len(s.Queues) < 50 {
		t.Errorf("the large fixture has %d objects", len(s.Exchanges)+len(s.Queues))
	}
}

func TestOutputDependsOnTheTopologyAlone(t *testing.T) {
	for name, top := range topologies(t) {
		for _, f := range formats {
			if first, second := f.draw(top), f.draw(top); first != second {
				t.Errorf("%s of %s changes from call to call", f.name, name)
			}
		}
	}
}

func topologies(tb testing.TB) map[string]topology.Topology {
	tb.Helper()
	all := map[string]topology.Topology{"orders": orders(tb), "shop": shop(tb), "pair": pair(), "empty": {}, "awkward": awkward()}
	for seed := range uint64(200 / slow) {
		all[fmt.Sprintf("random %d", seed)] = random(seed, 5+int(seed)/5)
	}
	return all
}

func TestEveryObjectAndEveryKeyIsInEachFormat(t *testing.T) {
	for name, top := range topologies(t) {
		for _, f := range formats {
			seen := f.seen(t, f.draw(top))
			expect := func(what, text string) {
				if text = visible(text); !strings.Contains(seen, text) {
					t.Errorf("%s of %s: %s %q is missing", f.name, name, what, text)
				}
			}
			for _, x := range top.Exchanges {
				expect("exchange", x.Name)
				expect("type", string(x.Type))
				expect("alternate exchange", x.AlternateExchange)
			}
			for _, q := range top.Queues {
				expect("queue", q.Name)
				if q.DeadLetter != nil {
					expect("dead-letter exchange", q.DeadLetter.Exchange)
					expect("dead-letter key", q.DeadLetter.RoutingKey)
				}
			}
			for _, b := range top.Bindings {
				expect("source", b.Source)
				expect("destination", b.Queue+b.Exchange)
				expect("key", b.Key)
			}
		}
	}
}

func (r rect) overlaps(o rect) bool {
	return r.x < o.x+o.w && o.x < r.x+r.w && r.y < o.y+o.h && o.y < r.y+r.h
}

func TestNothingInThePictureOverlaps(t *testing.T) {
	for name, top := range topologies(t) {
		p := newPicture(top)
		if p.width > widest {
			t.Errorf("%s: %d units wide", name, p.width)
		}
		var all []rect
		for _, b := range p.boxes {
			all = append(all, b.rect)
			for _, s := range b.about {
				if aboutFont.width(s)+2*inset > b.w {
					t.Errorf("%s: %q is wider than its box", name, s)
				}
			}
			if nameFont.width(b.name)+2*inset > b.w {
				t.Errorf("%s: %q is wider than its box", name, b.name)
			}
		}
		for _, l := range append(p.labels, p.captions...) {
			all = append(all, l.rect)
			for _, s := range l.lines {
				if labelFont.width(s) > l.w {
					t.Errorf("%s: %q is wider than its place", name, s)
				}
			}
		}
		for i, a := range all {
			if a.x < 0 || a.y < 0 || a.x+a.w > p.width || a.y+a.h > p.height {
				t.Errorf("%s: %v is outside of the picture", name, a)
			}
			for _, b := range all[:i] {
				if a.overlaps(b) {
					t.Errorf("%s: %v and %v overlap", name, a, b)
				}
			}
		}
		for _, r := range p.routes {
			samples := r.samples()
			for _, a := range all {
				for _, at := range samples {
					if at.x > a.x && at.x < a.x+a.w-1 && at.y > a.y && at.y < a.y+a.h-1 {
						t.Errorf("%s: the line %q crosses %v at %v", name, r.title, a, at)
					}
				}
			}
		}
	}
}

// samples returns points on the line of r.
func (r route) samples() (points []point) {
	const n = 24
	last := r.points[0]
	for _, at := range r.points[1:] {
		for i := range n + 1 {
			u := float64(i) / n
			x, y := u, u
			if !r.loop { // the curve of path
				x, y = 1.5*u*(1-u)+u*u*u, u*u*(3-2*u)
			}
			points = append(points, point{last.x + int(x*float64(at.x-last.x)), last.y + int(y*float64(at.y-last.y))})
		}
		last = at
	}
	return points
}

func TestSortingTheColumnsRemovesCrossings(t *testing.T) {
	before, after := 0, 0
	for _, top := range topologies(t) {
		parts, _ := newGraph(top).parts()
		for _, p := range parts {
			p.initial()
			n := p.crossings()
			p.order()
			if p.crossings() > n {
				t.Errorf("%d crossings became %d", n, p.crossings())
			}
			before, after = before+n, after+p.crossings()
		}
	}
	if after > before*3/4 {
		t.Errorf("%d crossings became %d, want at least a quarter fewer", before, after)
	}
	t.Logf("%d crossings became %d", before, after)
}

func TestWaitQueuesStandBesideTheirWorkQueue(t *testing.T) {
	boxes := map[string]box{}
	p := newPicture(orders(t))
	for _, b := range p.boxes {
		boxes[b.n.raw] = b
	}
	work := boxes["billing"]
	for _, name := range []string{"billing.wait.10s", "billing.wait.1m", "billing.parked"} {
		if b := boxes[name]; b.x <= work.x+work.w || b.x > work.x+2*work.w {
			t.Errorf("%s at %v, billing at %v", name, b.rect, work.rect)
		}
	}
	back := 0
	for _, a := range p.arrows {
		if a.to == toLeft && a.x == work.x+work.w {
			back++
		}
	}
	if back != 1 {
		t.Errorf("%d arrows lead back to billing, want a common one", back)
	}
}

func TestRolesFollowFromAttributes(t *testing.T) {
	dead := &topology.DeadLetter{RoutingKey: "target"}
	const unlimited = topology.Unlimited
	for name, c := range map[string]struct {
		queues   []topology.Queue
		bindings []topology.Binding
		want     role
	}{
		"plain":                       {queues: []topology.Queue{{}}, want: plain},
		"TTL only":                    {queues: []topology.Queue{{MessageTTL: time.Second}}, want: plain},
		"dead letters only":           {queues: []topology.Queue{{DeadLetter: dead}}, want: plain},
		"TTL and dead letters":        {queues: []topology.Queue{{MessageTTL: time.Second, DeadLetter: dead}}, want: wait},
		"the same as arguments":       {queues: []topology.Queue{{Arguments: amqp.Table{"x-message-ttl": int32(0), "x-dead-letter-exchange": "x"}}}, want: wait},
		"unlimited":                   {queues: []topology.Queue{{DeliveryLimit: new(unlimited)}}, want: parking},
		"unlimited, with a binding":   {queues: []topology.Queue{{DeliveryLimit: new(unlimited)}}, bindings: []topology.Binding{{Source: "x", Queue: "q"}}, want: plain},
		"target of dead letters":      {queues: []topology.Queue{{}, {DeadLetter: &topology.DeadLetter{RoutingKey: "q"}}}, want: parking},
		"target of expired messages":  {queues: []topology.Queue{{}, {MessageTTL: 1e9, DeadLetter: &topology.DeadLetter{RoutingKey: "q"}}}, want: plain},
		"target through an exchange":  {queues: []topology.Queue{{}, {DeadLetter: &topology.DeadLetter{Exchange: "x"}}}, bindings: []topology.Binding{{Source: "x", Queue: "q"}}, want: parking},
		"dead letters that expire":    {queues: []topology.Queue{{MessageTTL: 1e9}, {DeadLetter: &topology.DeadLetter{RoutingKey: "q"}}}, want: plain},
		"a stream with dead letters":  {queues: []topology.Queue{{Type: topology.Stream}, {DeadLetter: &topology.DeadLetter{RoutingKey: "q"}}}, want: plain},
		"a work queue of an exchange": {queues: []topology.Queue{{}, {DeadLetter: &topology.DeadLetter{Exchange: "x", RoutingKey: "failed"}}}, bindings: []topology.Binding{{Source: "x", Queue: "q", Key: "work"}}, want: plain},
	} {
		for i := range c.queues {
			c.queues[i].Name = [...]string{"q", "other"}[i]
		}
		top := topology.Topology{Exchanges: []topology.Exchange{{Name: "x", Type: topology.Direct}}, Queues: c.queues, Bindings: c.bindings}
		for _, n := range newGraph(top).nodes {
			if n.raw == "q" && n.role != c.want {
				t.Errorf("%s: role %d, want %d", name, n.role, c.want)
			}
		}
	}
}

func TestAParkingQueueOfAnUndeclaredSourceStandsBesideIt(t *testing.T) {
	top := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "x", Type: topology.Fanout}},
		Queues:    []topology.Queue{{Name: "orders"}, {Name: "orders.parked", DeliveryLimit: new(topology.Unlimited)}, {Name: "other.parked"}},
		Bindings:  []topology.Binding{{Source: "x", Queue: "orders"}},
	}
	boxes := map[string]box{}
	for _, b := range newPicture(top).boxes {
		boxes[b.n.raw] = b
	}
	if source, parked := boxes["orders"], boxes["orders.parked"]; parked.x <= source.x || parked.y != source.y {
		t.Errorf("orders.parked at %v, orders at %v", parked.rect, source.rect)
	}
	if boxes["other.parked"].y <= boxes["orders"].y {
		t.Error("other.parked is not in the grid")
	}
}

func TestAttributesThatMatterAreShown(t *testing.T) {
	for want, q := range map[string]topology.Queue{
		"quorum":                                {},
		"quorum, TTL 1h":                        {MessageTTL: time.Hour},
		"quorum, TTL 1h30m":                     {Arguments: amqp.Table{"x-message-ttl": int64(5_400_000)}},
		"quorum, TTL 9223372036854775807 ms":    {Arguments: amqp.Table{"x-message-ttl": uint64(1 << 63)}},
		"classic, max 100,000, max 10 MB":       {Type: topology.Classic, MaxLength: 100_000, MaxLengthBytes: 10e6},
		"quorum, max 999, reject-publish":       {MaxLength: 999, Overflow: topology.RejectPublish},
		"quorum, delivery limit 3":              {DeliveryLimit: new(3), Overflow: topology.RejectPublish},
		"quorum, no delivery limit":             {DeliveryLimit: new(topology.Unlimited)},
		"quorum, single active consumer":        {SingleActiveConsumer: true},
		"quorum, retry after 10s to 1m":         {DelayedRetry: &topology.DelayedRetry{Min: 10 * time.Second, Max: time.Minute}},
		"stream, max age 7d":                    {Type: topology.Stream, MaxAge: 7 * 24 * time.Hour},
		"stream, max 1 GiB, max age 7D":         {Type: topology.Stream, MaxLengthBytes: 1 << 30, Arguments: amqp.Table{"x-max-age": "7D"}},
		"classic, deleted after 1m30s unused":   {Type: topology.Classic, Expires: 90 * time.Second},
		"classic, transient, exclusive":         {Type: topology.Classic, Transient: true, Exclusive: true},
		"classic, priorities to 5, auto-delete": {Type: topology.Classic, MaxPriority: 5, AutoDelete: true},
	} {
		if got := strings.Join(aboutQueue(q), ", "); got != want {
			t.Errorf("about %+v: %s, want %s", q, got, want)
		}
	}
}

func TestAThousandObjectsAreDrawnWithinASecond(t *testing.T) {
	chain := topology.Topology{}
	for i := range 1000 {
		chain.Exchanges = append(chain.Exchanges, topology.Exchange{Name: strconv.Itoa(i), Type: topology.Fanout})
		chain.Bindings = append(chain.Bindings, topology.Binding{Source: strconv.Itoa(i), Exchange: strconv.Itoa((i + 1) % 1000)})
	}
	for name, top := range map[string]topology.Topology{"random": random(2, 1000), "chain": chain} {
		for _, f := range formats {
			best := time.Hour // of several attempts, because other programs run on the machine too
			for range 5 {
				start := time.Now()
				f.draw(top)
				if best = min(best, time.Since(start)); best < time.Second*slow {
					break
				}
			}
			if best >= time.Second*slow {
				t.Errorf("%s of %s took %v", f.name, name, best)
			}
		}
	}
}

func FuzzNamesAreDrawn(f *testing.F) {
	f.Add("orders", "order.paid", "a,b", uint64(1))
	f.Add(`"]; --> x`, "</text>", "\x00\u202e\xff", uint64(2))
	f.Add("`x`", "#35;", "1. list", uint64(3))
	f.Fuzz(func(t *testing.T, name, key, value string, seed uint64) {
		top := random(seed, 8)
		top.Queues[0].Name, top.Exchanges[0].Name, top.Exchanges[0].Type = name, name, topology.ExchangeType(value)
		top.Queues[1].DeadLetter = &topology.DeadLetter{Exchange: value, RoutingKey: key}
		top.Bindings = append(top.Bindings, topology.Binding{Source: name, Queue: name, Exchange: value, Key: key, Arguments: amqp.Table{key: value, value: top}})
		for _, format := range formats {
			seen := format.seen(t, format.draw(top))
			for _, text := range []string{name, key} {
				if !strings.Contains(seen, visible(text)) {
					t.Errorf("%s: %q is missing", format.name, text)
				}
			}
		}
	})
}

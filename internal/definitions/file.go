package definitions

import (
	"fmt"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A File contains the objects of one virtual host, in the order of the file.
type File struct {
	Exchanges []Exchange `json:"exchanges"`
	Queues    []Queue    `json:"queues"`
	Bindings  []Binding  `json:"bindings"`

	Unsupported []Unsupported `json:"-"`
}

// An Exchange is an object of the list "exchanges".
type Exchange struct {
	Name       string     `json:"name"`
	VHost      string     `json:"vhost,omitempty"`
	Type       string     `json:"type"`
	Durable    bool       `json:"durable"`
	AutoDelete bool       `json:"auto_delete"`
	Internal   bool       `json:"internal"`
	Arguments  amqp.Table `json:"arguments"`
	Allow      bool       `json:"allow_unknown_arguments,omitempty"`

	Node *tree.Node `json:"-"`
}

// A Queue is an object of the list "queues".
type Queue struct {
	Name       string     `json:"name"`
	VHost      string     `json:"vhost,omitempty"`
	Type       string     `json:"type"`
	Durable    bool       `json:"durable"`
	AutoDelete bool       `json:"auto_delete"`
	Arguments  amqp.Table `json:"arguments"` // always with x-queue-type
	Allow      bool       `json:"allow_unknown_arguments,omitempty"`

	Node *tree.Node `json:"-"`
}

// A Binding is an object of the list "bindings".
type Binding struct {
	Source          string     `json:"source"`
	VHost           string     `json:"vhost,omitempty"`
	Destination     string     `json:"destination"`
	DestinationType string     `json:"destination_type"`
	RoutingKey      string     `json:"routing_key"`
	Arguments       amqp.Table `json:"arguments"`
	Allow           bool       `json:"allow_unknown_arguments,omitempty"`

	Node *tree.Node `json:"-"`
}

// Unsupported is content that is not part of the File.
type Unsupported struct {
	Content string
	Count   int
	Node    *tree.Node // the first
}

// A Reader reads the definitions of one virtual host.
type Reader struct {
	VirtualHost string // empty for the only one of the file
	Durations   bool   // arguments that are times may be durations such as "1h"
	Faults      *tree.Faults

	file        File
	hosts       map[string]*tree.Node // that the file names, with the first place
	defaultType string                // of queues
}

const sections = "exchanges queues bindings"

// settings are keys that describe the file and whose values are not content.
var settings = []string{
	"rabbit_version", "rabbitmq_version", "product_name", "product_version", "rabbitmq_definition_format", "original_cluster_name",
	"original_vhost_name", "explanation", "metadata", "description", "tags", "default_queue_type", "$schema",
}

// others are lists that a topology cannot express.
var others = []string{
	"users", "vhosts", "permissions", "topic_permissions", "parameters", "global_parameters", "policies", "operator_policies", "limits", "user_limits", "vhost_limits",
}

// Read reads a file. The result is incomplete if there are faults.
func (r *Reader) Read(root *tree.Node) File {
	if root.Kind != tree.Map {
		r.Faults.Add(root, "the file is "+string(root.Kind), `write the definitions as {"exchanges": […], "queues": […], "bindings": […]}`)
		return r.file
	}
	if !r.choose(root) {
		return r.file
	}
	known := slices.Concat(strings.Fields(sections), settings, others)
	for i, key := range root.Keys {
		n := root.Items[i]
		switch {
		case slices.Contains(settings, key.Text):
		case key.Text == "exchanges":
			r.each(n, r.exchange)
		case key.Text == "queues":
			r.each(n, r.queue)
		case key.Text == "bindings":
			r.each(n, r.binding)
		default:
			if near := validate.Similar(key.Text, known); near != "" && !slices.Contains(others, key.Text) {
				r.Faults.Add(key, "is unknown", fmt.Sprintf("did you mean %q?", near))
				continue
			}
			r.section(key, n)
		}
	}
	return r.file
}

// choose determines the virtual host.
func (r *Reader) choose(root *tree.Node) bool {
	r.hosts = map[string]*tree.Node{}
	for _, section := range strings.Fields(sections) {
		if list := root.Get(section); list != nil {
			for _, object := range list.Items {
				if host := object.Get("vhost"); host != nil && r.hosts[host.Text] == nil {
					r.hosts[host.Text] = host
				}
			}
		}
	}
	all := make([]string, 0, len(r.hosts))
	for host := range r.hosts {
		all = append(all, validate.Quote(host))
	}
	slices.Sort(all)
	named := r.VirtualHost
	switch {
	case named == "" && len(all) > 1:
		r.Faults.Add(root, "the file has objects of the virtual hosts "+strings.Join(all, ", "), "name the virtual host to read")
		return false
	case named == "":
		for host := range r.hosts {
			r.VirtualHost = host
		}
	case r.hosts[named] == nil && !r.declares(root, named) && len(all) > 0:
		r.Faults.Add(root, fmt.Sprintf("the file does not have the virtual host %s, but %s", validate.Quote(named), strings.Join(all, ", ")), "name one of them")
		return false
	}
	r.defaultType = r.defaultQueueType(root)
	return true
}

// declares reports whether the list of virtual hosts contains one that has no objects.
func (r *Reader) declares(root *tree.Node, name string) bool {
	return slices.ContainsFunc(vhosts(root), func(n *tree.Node) bool { return text(n.Get("name")) == name })
}

func vhosts(root *tree.Node) []*tree.Node {
	if list := root.Get("vhosts"); list != nil {
		return list.Items
	}
	return nil
}

// defaultQueueType returns the type that RabbitMQ gives to queues without one.
func (r *Reader) defaultQueueType(root *tree.Node) string {
	nodes := []*tree.Node{root}
	for _, n := range vhosts(root) {
		if text(n.Get("name")) == r.VirtualHost {
			nodes = append(nodes, n)
		}
	}
	for _, n := range nodes {
		if m := n.Get("metadata"); m != nil {
			nodes = append(nodes, m)
		}
	}
	for _, n := range nodes {
		if kind := text(n.Get("default_queue_type")); kind != "" && kind != "undefined" {
			return kind
		}
	}
	return "classic"
}

func text(n *tree.Node) string {
	if n == nil || n.Kind != tree.String {
		return ""
	}
	return n.Text
}

// section counts the entries of a list that a topology cannot express.
func (r *Reader) section(key, n *tree.Node) {
	count := 1
	if n.Kind == tree.List || n.Kind == tree.Map {
		count = len(n.Items)
	}
	if count > 0 {
		r.unsupported(key.Text, key, count)
	}
}

func (r *Reader) unsupported(content string, n *tree.Node, count int) {
	for i := range r.file.Unsupported {
		if u := &r.file.Unsupported[i]; u.Content == content {
			u.Count += count
			return
		}
	}
	r.file.Unsupported = append(r.file.Unsupported, Unsupported{content, count, n})
}

// each reads the objects of a list that belong to the virtual host.
func (r *Reader) each(list *tree.Node, read func(*tree.Node)) {
	for _, n := range r.Faults.Items(list) {
		if host := n.Get("vhost"); host != nil && host.Kind == tree.String && host.Text != r.VirtualHost {
			r.unsupported(fmt.Sprintf("%s of virtual host %s", list.Key().Text, validate.Quote(host.Text)), n, 1)
			continue
		}
		read(n)
	}
}

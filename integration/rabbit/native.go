package rabbit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/amqpkit/amqpkit/integration/internal/ports"
)

// native is a private node of an installed rabbitmq-server. It is independent of the system's RabbitMQ service: it has
// its own name, ports, port mapper (epmd), cookie, configuration and data directory. The exported fields are stored in
// that directory, so that another process can stop the node.
type native struct {
	Dir      string
	Server   string  // path of rabbitmq-server
	Port     int     // AMQP, on 127.0.0.1
	DistPort int     // between Erlang nodes
	EpmdPort int     // Erlang's port mapper
	Owner    process // the process that must remove the node; zero with Options.Keep

	reused bool
	Node   process // leader of a separate process group
	Epmd   process // leader of a separate process group
}

const (
	stateFile      = "node.json"
	nodeDirPattern = "amqpkit-node-*"
)

func newNative(_ context.Context, server string, o Options) (*native, error) {
	if o.Keep {
		dir, err := demoDir()
		if err != nil {
			return nil, err
		}
		if n, err := loadNative(dir); err == nil {
			n.reused = true
			return n, nil
		}
		return createNative(dir, server, o, process{})
	}
	removeStaleNodes()
	dir, err := os.MkdirTemp("", nodeDirPattern)
	if err != nil {
		return nil, err
	}
	return createNative(dir, server, o, processOf(os.Getpid()))
}

func createNative(dir, server string, o Options, owner process) (*native, error) {
	n := &native{Dir: dir, Server: server, Owner: owner}
	preferred := 0
	if o.Keep {
		preferred = amqpPort
	}
	var errs [4]error
	n.Port, errs[0] = ports.Free(preferred)
	n.DistPort, errs[1] = ports.Free(0)
	n.EpmdPort, errs[2] = ports.Free(0)
	errs[3] = os.MkdirAll(filepath.Join(dir, "log"), 0o700)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		"env.conf":        "",
		"rabbitmq.conf":   "log.console = true\nlog.file = false\n" + o.Conf + "\n",
		"enabled_plugins": enabledPlugins(o.Plugins),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return n, n.save()
}

func (n *native) handle() string { return nodeHandle + n.Dir }

func (n *native) existed() bool { return n.reused }

func loadNative(dir string) (*native, error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	n := new(native)
	return n, json.Unmarshal(text, n)
}

func (n *native) save() error {
	text, err := json.MarshalIndent(n, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.Dir, stateFile), text, 0o600)
}

func (n *native) start(ctx context.Context) error {
	if n.Node.PID != 0 && !n.Node.exited() {
		return nil // an earlier process left it running
	}
	var err error
	if n.Epmd.PID == 0 || n.Epmd.exited() {
		// If Erlang starts epmd itself, epmd stays as a daemon.
		if n.Epmd, err = n.spawn("epmd", "-address", "127.0.0.1", "-port", strconv.Itoa(n.EpmdPort)); err != nil {
			return err
		}
	}
	if n.Node, err = n.spawn(n.Server); err != nil {
		return err
	}
	return n.save()
}

// spawn starts a command that may outlive this process, as the leader of a process group. Its output goes to the log.
func (n *native) spawn(name string, args ...string) (process, error) {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return process{}, err
	}
	defer log.Close()
	cmd := exec.Command(name, args...) //nolint:noctx // It must outlive the context.
	cmd.Dir = n.Dir
	cmd.Env = n.env()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, err
	}
	p := processOf(cmd.Process.Pid)
	go reap(cmd)
	return p, nil
}

// reap prevents a zombie. process.exited reports the exit. It does not return before the process exits, which may be after
// Close of an attached Broker.
func reap(cmd *exec.Cmd) { _ = cmd.Wait() }

// env returns the environment of the node: the one of this process, with all settings of RabbitMQ and Erlang replaced.
func (n *native) env() []string {
	env := []string{}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RABBITMQ_") && !strings.HasPrefix(v, "ERL_") {
			env = append(env, v)
		}
	}
	in := func(name string) string { return filepath.Join(n.Dir, name) }
	return append(env,
		"PATH="+filepath.Dir(n.Server)+":"+os.Getenv("PATH"),
		"HOME="+n.Dir, // location of the Erlang cookie
		"ERL_EPMD_PORT="+strconv.Itoa(n.EpmdPort),
		"RABBITMQ_NODENAME="+n.nodeName(),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT="+strconv.Itoa(n.Port),
		"RABBITMQ_DIST_PORT="+strconv.Itoa(n.DistPort),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_MNESIA_BASE="+in("data"),
		"RABBITMQ_LOG_BASE="+in("log"),
		"RABBITMQ_LOGS=-",
		"RABBITMQ_PID_FILE="+in("node.pid"),
		"RABBITMQ_CONF_ENV_FILE="+in("env.conf"),
		"RABBITMQ_CONFIG_FILE="+in("rabbitmq.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE="+in("advanced.config"),
		"RABBITMQ_CONFIG_FILES="+in("conf.d"),
		"RABBITMQ_GENERATED_CONFIG_DIR="+in("generated"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+in("enabled_plugins"),
	)
}

// nodeName uses localhost, because other host names may not resolve.
func (n *native) nodeName() string { return fmt.Sprintf("amqpkit-%d@localhost", n.Port) }

func (n *native) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if n.Node.exited() {
		return nil
	}
	if err := syscall.Kill(n.Node.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	for !n.Node.exited() {
		if err := nextPoll(ctx); err != nil {
			return errors.Join(err, killGroup(ctx, n.Node))
		}
	}
	return nil
}

func (n *native) kill(ctx context.Context) error {
	if err := killGroup(ctx, n.Node); err != nil {
		return err
	}
	// The group's leader is a shell. Erlang, another process of the group, may exit later and holds the ports until then.
	for !ports.IsFree(n.Port) || !ports.IsFree(n.DistPort) {
		if err := nextPoll(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *native) pause(ctx context.Context) error { return n.signal(ctx, syscall.SIGSTOP) }

func (n *native) unpause(ctx context.Context) error { return n.signal(ctx, syscall.SIGCONT) }

func (n *native) signal(ctx context.Context, sig syscall.Signal) error {
	if err := n.running(ctx); err != nil {
		return err
	}
	return syscall.Kill(-n.Node.PID, sig)
}

func (n *native) detach(context.Context) {}

func (n *native) hostPort(port int) int {
	if port == amqpPort {
		return n.Port
	}
	return 0
}

func (n *native) remove(ctx context.Context) error {
	var restarted native // by an attached process
	if last, err := loadNative(n.Dir); err == nil {
		restarted = *last
	}
	var errs []error
	for _, p := range []process{n.Node, n.Epmd, restarted.Node, restarted.Epmd} {
		errs = append(errs, killGroup(ctx, p))
	}
	return errors.Join(append(errs, os.RemoveAll(n.Dir))...)
}

// killGroup kills a process group and waits until its leader has exited.
func killGroup(ctx context.Context, p process) error {
	if p.PID <= 0 || p.exited() {
		return nil
	}
	if err := syscall.Kill(-p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	for !p.exited() {
		if err := nextPoll(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *native) run(ctx context.Context, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, n.lookPath(command[0]), command[1:]...)
	cmd.Dir = n.Dir
	cmd.Env = n.env()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// lookPath prefers commands in the server's directory: the ones in $PATH may require another user.
func (n *native) lookPath(command string) string {
	if path := filepath.Join(filepath.Dir(n.Server), command); fileExists(path) {
		return path
	}
	return command
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (n *native) running(context.Context) error {
	if n.Node.PID == 0 || n.Node.exited() {
		return errors.New("the node's process exited")
	}
	return nil
}

func (n *native) pid(context.Context) int { return n.Node.PID }

func (n *native) logFile() string { return filepath.Join(n.Dir, "log", "node.log") }

func (n *native) log(context.Context) string {
	text, err := os.ReadFile(n.logFile())
	if err != nil {
		return ""
	}
	return lastLines(string(bytes.TrimSpace(text)), 25)
}

func (n *native) url() string { return localURL(n.Port) }

func (n *native) describe() string { return "as a private node of " + n.Server }

// removeStaleNodes removes nodes whose owner exited without removing them.
func removeStaleNodes() {
	states, _ := filepath.Glob(filepath.Join(os.TempDir(), nodeDirPattern, stateFile))
	for _, state := range states {
		n, err := loadNative(filepath.Dir(state))
		if err == nil && n.Owner.exited() {
			ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
			_ = n.remove(ctx)
			cancel()
		}
	}
}

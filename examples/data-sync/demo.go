package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/outbox"
)

// A demo runs both services as processes, kills each once, and compares their databases.
type demo struct {
	postgres bool
	keep     bool
	load     time.Duration
	services []*process
}

// existing is the number of orders that exist before the orders service has an outbox. Only a snapshot contains them.
const existing = 1000

func insertExisting(ctx context.Context, db *database) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	for i := range existing {
		if _, err := tx.ExecContext(ctx, "INSERT INTO orders (customer, cents, status) VALUES ($1, 1000, 'new')", fmt.Sprint("customer ", i%50)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (d *demo) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.load+90*time.Second, errors.New("the databases did not become equal in time"))
	defer cancel()
	if err := deleteQueues(); err != nil {
		return err
	}
	remove, err := d.createDatabases(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if d.keep {
			fmt.Printf("databases kept:\n  %s='%s' %s='%s' go -C examples/data-sync run . check\n", ordersVar, os.Getenv(ordersVar), billingVar, os.Getenv(billingVar))
			return
		}
		err = errors.Join(err, remove())
	}()
	orders, err := openDatabase(ctx, ordersVar)
	if err != nil {
		return err
	}
	defer orders.Close()
	billing, err := openDatabase(ctx, billingVar)
	if err != nil {
		return err
	}
	defer billing.Close()
	if err := insertExisting(ctx, orders); err != nil {
		return err
	}
	fmt.Printf("demo: %d orders exist\n", existing)

	defer func() { // after an error
		for _, p := range d.services {
			p.kill()
		}
	}()
	ordersService, err := d.faults(ctx)
	if err != nil {
		return err
	}
	if err := ordersService.await(ctx, "orders: load finished"); err != nil {
		return err
	}
	if err := awaitEqual(ctx, orders, billing); err != nil {
		return errors.Join(err, printDifferences(context.WithoutCancel(ctx), orders.DB, billing.DB))
	}
	for _, p := range d.services {
		if err := p.stop(); err != nil {
			return err
		}
	}
	return printDifferences(ctx, orders.DB, billing.DB)
}

// deleteQueues deletes the queues of an earlier run: their messages belong to databases that no longer exist.
func deleteQueues() (err error) {
	conn, err := amqp.Dial(brokerURL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	for _, queue := range []string{billingQueue, requestQueue} {
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			return err
		}
	}
	return nil
}

// faults starts the services, the billing service later, and kills and restarts each. It returns the second orders service.
func (d *demo) faults(ctx context.Context) (orders *process, err error) {
	step := d.load / 6
	first, err := d.start("-load=1m", "orders") // until it is killed
	if err != nil {
		return nil, err
	}
	sleep(ctx, step)
	fmt.Println("demo: the billing service starts later")
	second, err := d.start("billing")
	if err != nil {
		return nil, err
	}
	if err := second.await(ctx, "billing: started"); err != nil {
		return nil, err
	}
	sleep(ctx, step/2)
	fmt.Println("demo: kill -9 billing, start it again")
	second.kill()
	if _, err := d.start("billing"); err != nil {
		return nil, err
	}
	sleep(ctx, step/2)
	fmt.Println("demo: kill -9 orders, start it again")
	first.kill()
	return d.start("-load="+(d.load/2).String(), "orders")
}

// awaitEqual waits until both outboxes are empty and the databases are equal.
func awaitEqual(ctx context.Context, orders, billing *database) error {
	for {
		waiting := 0
		for _, db := range []*database{orders, billing} {
			box, err := outbox.New(outbox.Config{Dialect: db.dialect})
			if err != nil {
				return err
			}
			stats, err := box.Stats(ctx, db.DB)
			if err != nil {
				return err
			}
			waiting += stats.Waiting
		}
		differences, _, err := compare(ctx, orders.DB, billing.DB)
		if err != nil {
			return err
		}
		if waiting == 0 && len(differences) == 0 {
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("%w: %d messages wait in an outbox", context.Cause(ctx), waiting)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// createDatabases creates two empty databases and sets their environment variables, for this process and the services.
func (d *demo) createDatabases(ctx context.Context) (remove func() error, err error) {
	if d.postgres {
		return createPostgres(ctx)
	}
	dir, err := os.MkdirTemp("", "data-sync-")
	if err != nil {
		return nil, err
	}
	for variable, name := range map[string]string{ordersVar: "orders.db", billingVar: "billing.db"} {
		// Each service and the checker open the files, so they must wait for each other (busy_timeout) from the start of a
		// transaction (_txlock=immediate).
		path := filepath.ToSlash(filepath.Join(dir, name))
		if err := os.Setenv(variable, "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate"); err != nil {
			return nil, err
		}
	}
	return func() error { return os.RemoveAll(dir) }, nil
}

// A process is a service.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string
	ended bool
}

// start starts this program as a service. Its lines are printed.
func (d *demo) start(args ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(program, args...), lines: make(chan string, 100)} //nolint:gosec,noctx // this program; demo.run ends it
	p.cmd.Stderr = os.Stderr
	out, err1 := p.cmd.StdoutPipe()
	in, err2 := p.cmd.StdinPipe()
	if err := errors.Join(err1, err2, p.cmd.Start()); err != nil {
		return nil, err
	}
	p.stdin = in
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Println(lines.Text())
			p.lines <- lines.Text()
		}
	}()
	d.services = append(d.services, p)
	return p, nil
}

// await waits for a line that begins with a text.
func (p *process) await(ctx context.Context, begin string) error {
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return fmt.Errorf("%v ended before it printed %q", p.cmd.Args[1:], begin)
			}
			if strings.HasPrefix(line, begin) {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// kill kills the process, as kill -9 does.
func (p *process) kill() {
	if !p.ended {
		_ = p.cmd.Process.Kill()
		_ = p.wait() // the error says that it was killed
	}
}

// stop asks the process to shut down, and waits.
func (p *process) stop() error {
	if p.ended {
		return nil
	}
	_ = p.stdin.Close()
	return p.wait()
}

func (p *process) wait() error {
	p.ended = true
	for range p.lines { // until the process has closed its output
	}
	return p.cmd.Wait()
}

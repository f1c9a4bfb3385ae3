package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Leases divide the shards among the relays. Each shard has a row in a table with its holder and the time at which the
// lease expires, by the clock of the database. Each relay has a row too, by which the others count it. One statement renews
// all rows of a relay. A lease works through a pooler of connections too, and ends by itself if its holder dies.
//
// keepLeases alone changes the set of shards. Workers ask for it before each batch.
type leases struct {
	mu    sync.Mutex
	base  context.Context // the parent of ctx
	ctx   context.Context // ends when the leases expire; another one begins when they are renewed
	end   context.CancelCauseFunc
	timer *time.Timer
	until time.Time // the leases are valid until then

	holder string
	owned  map[int]bool   // shards that workers may begin to use
	inUse  [workers][]int // shards of the current batch of each worker
}

const (
	leaseTick   = time.Second
	deadRelay   = time.Hour // the row of a relay that was killed is deleted so long after it has expired
	leaseMargin = 10        // a lease counts as expired when a tenth of it is left
)

var errLeaseLost = errors.New("outbox: the leases expired; published messages without an outcome may be published twice")

func shardLease(shard int) string { return fmt.Sprintf("shard %02d", shard) }

const relayLease = "relay "

func (l *leases) begin(base context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base, l.holder, l.owned, l.inUse = base, newID(), nil, [workers][]int{}
	l.ctx, l.end = context.WithCancelCause(base)
	l.until, l.timer = time.Time{}, time.AfterFunc(0, l.expire)
}

// renewed records that the leases are valid until a time of this process's clock.
func (l *leases) renewed(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.current() { // the timer may be late
		l.end(errLeaseLost)
	}
	if l.ctx.Err() != nil {
		l.ctx, l.end = context.WithCancelCause(l.base)
	}
	l.until = until
	l.timer.Reset(time.Until(until))
}

// current reports whether the leases have not expired. The monotonic clock stands still while a machine is suspended,
// and the other clock may be set back, so both must agree. l.mu is held.
func (l *leases) current() bool {
	now := time.Now()
	return now.Before(l.until) && now.Round(0).Before(l.until.Round(0))
}

func (l *leases) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.current() {
		l.end(errLeaseLost)
	}
}

func (l *leases) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
	l.end(ErrNotRunning)
}

// use returns the shards of a worker and a ctx that ends when their leases expire. They are in use until release.
func (l *leases) use(worker int) (ctx context.Context, shards []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current() {
		for _, shard := range slices.Sorted(maps.Keys(l.owned)) {
			if shard%workers == worker {
				shards = append(shards, shard)
			}
		}
	}
	l.inUse[worker] = shards
	return l.ctx, shards
}

// release marks the shards of a worker as unused.
func (l *leases) release(worker int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inUse[worker] = nil
}

// valid reports whether the leases have not expired. The timer of ctx may be late, for example after the process was
// suspended.
func (l *leases) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current()
}

// keep sets the shards of the relay to mine, less those above its share, and returns the surplus shards that no batch
// uses. The others follow after their batch.
func (l *leases) keep(mine map[int]bool, share int) (surplus []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := func(shard int) bool {
		return slices.ContainsFunc(l.inUse[:], func(shards []int) bool { return slices.Contains(shards, shard) })
	}
	for _, shards := range l.inUse {
		if slices.ContainsFunc(shards, func(shard int) bool { return !mine[shard] }) {
			l.end(errLeaseLost) // the clock of the database has changed, or an operator has changed the table
		}
	}
	candidates := slices.Collect(maps.Keys(mine))
	slices.SortStableFunc(candidates, func(a, b int) int { // unused ones first: they were above the share before
		switch {
		case used(a) == used(b):
			return 0
		case used(a):
			return 1
		}
		return -1
	})
	for _, shard := range candidates[:max(len(mine)-share, 0)] {
		delete(mine, shard)
		if !used(shard) {
			surplus = append(surplus, shard)
		}
	}
	l.owned = mine
	return surplus
}

func (l *leases) acquired(shard int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owned[shard] = true
}

// keepLeases acquires and renews leases until ctx ends, and releases them then. It acquires no further ones after the
// end of stopping.
func (r *Relay) keepLeases(ctx, stopping context.Context) {
	var retry pause
	for ctx.Err() == nil {
		wait := min(leaseTick, r.cfg.Lease/3)
		if err := r.renewLeases(ctx, stopping.Err() == nil); err != nil {
			r.failed(stopping, "outbox: database", fmt.Errorf("outbox: renew leases: %w", err))
			wait = min(retry.next(), r.cfg.Lease/3)
		} else {
			retry.reset()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	names := r.outbox.dialect.names()
	_, err := r.exec(ctx, r.db, "UPDATE "+names.leases.String()+" SET holder = '', expires_at = 0 WHERE holder = ? AND name LIKE 'shard%'", r.leases.holder)
	if err == nil {
		_, err = r.exec(ctx, r.db, "DELETE FROM "+names.leases.String()+" WHERE holder = ?", r.leases.holder)
	}
	if err != nil {
		r.cfg.Logger.WarnContext(ctx, "outbox: leases not released; other relays wait until they expire", slog.Any("error", err))
	}
}

// A lease is a row of the table of leases.
type lease struct {
	name, holder string
	left         int64 // microseconds until it expires
}

// renewLeases renews the leases of the relay, releases shards above its fair share, and acquires free ones below it.
func (r *Relay) renewLeases(ctx context.Context, more bool) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Lease/2)
	defer cancel()
	l, now := &r.leases, r.outbox.dialect.now()
	table := r.outbox.dialect.names().leases.String()
	lifetime := r.cfg.Lease.Microseconds()
	start := time.Now()
	renewed, err := r.exec(ctx, r.db, "UPDATE "+table+" SET expires_at = "+now+" + ? WHERE holder = ?", lifetime, l.holder)
	if err != nil {
		return err
	}
	if renewed == 0 {
		if _, err := r.exec(ctx, r.db, "INSERT INTO "+table+" (name, holder, expires_at) VALUES (?, ?, "+now+" + ?)", relayLease+l.holder, l.holder, lifetime); err != nil {
			return err
		}
	}
	all, err := r.readLeases(ctx)
	if err != nil {
		return err
	}
	relays, mine, free := 0, map[int]bool{}, []int(nil)
	for shard := range shards {
		i := slices.IndexFunc(all, func(e lease) bool { return e.name == shardLease(shard) })
		switch {
		case i < 0:
			return fmt.Errorf("table %s has no row %q; call Outbox.Create", r.outbox.dialect.names().leases, shardLease(shard))
		case all[i].holder == l.holder:
			mine[shard] = true
		case all[i].left <= 0:
			free = append(free, shard)
		}
	}
	for _, e := range all {
		if strings.HasPrefix(e.name, relayLease) && e.left > 0 {
			relays++
		}
	}
	share := (shards + relays - 1) / max(relays, 1)
	surplus := l.keep(mine, share)
	l.renewed(start.Add(r.cfg.Lease - r.cfg.Lease/leaseMargin))
	for _, shard := range surplus {
		if _, err := r.exec(ctx, r.db, "UPDATE "+table+" SET holder = '', expires_at = 0 WHERE name = ? AND holder = ?", shardLease(shard), l.holder); err != nil {
			return err
		}
	}
	for _, e := range all {
		if strings.HasPrefix(e.name, relayLease) && e.left < -deadRelay.Microseconds() {
			if _, err := r.exec(ctx, r.db, "DELETE FROM "+table+" WHERE name = ? AND expires_at < "+now, e.name); err != nil {
				return err
			}
		}
	}
	if !more {
		return nil
	}
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, shard := range free {
		if len(mine) >= share {
			break
		}
		n, err := r.exec(ctx, r.db, "UPDATE "+table+" SET holder = ?, expires_at = "+now+" + ? WHERE name = ? AND expires_at <= "+now, l.holder, lifetime, shardLease(shard))
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		l.acquired(shard)
		r.outbox.Wake()
	}
	return nil
}

func (r *Relay) readLeases(ctx context.Context) (all []lease, err error) {
	rows, err := r.db.QueryContext(ctx, "SELECT name, holder, expires_at - "+r.outbox.dialect.now()+" FROM "+r.outbox.dialect.names().leases.String())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e lease
		if err := rows.Scan(&e.name, &e.holder, &e.left); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// exec executes a statement and returns the number of affected rows.
func (r *Relay) exec(ctx context.Context, to executor, query string, args ...any) (int64, error) {
	result, err := to.ExecContext(ctx, r.outbox.bind(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

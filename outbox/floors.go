package outbox

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Floors are ids below which the database cannot show any message of a shard, so that queries need not pass deleted
// messages that it has not cleaned up yet. A long transaction can prevent the cleaning for hours, and a query would pass
// all messages of these hours.
//
// A floor is not a cursor. A message may become visible long after messages with higher ids, when its transaction commits, so
// a floor rises in three steps: a query finds nothing below an id; all transactions that may have added
// messages before that query end; and a later query still finds nothing below the id. Once a minute a query starts from the beginning,
// in case an operator has restored the table or its sequence.
type floors struct {
	ids     map[int]int64 // floor of each shard; nil until the first one is known
	first   map[int]int64 // the lowest id of each shard in the last query
	highest int64         // the highest id of the last query that found messages
	shards  []int         // the shards of the last query

	candidates map[int]int64 // floors that apply if the steps succeed
	writers    map[string]bool
	ended      bool // no writer is open any more
	confirmed  bool // there was a query since then

	next time.Time // when update runs next
	full time.Time // when a query last started from the beginning
}

const (
	floorInterval = 250 * time.Millisecond
	fullInterval  = time.Minute
)

// ranges returns the part of each shard to be read.
func (f *floors) ranges(shards []int) []shardRange {
	if time.Since(f.full) > fullInterval {
		f.full, f.ids = time.Now(), map[int]int64{}
		f.abandon()
	}
	ranges := make([]shardRange, len(shards))
	for i, shard := range shards {
		ranges[i] = shardRange{shard, f.ids[shard]}
	}
	return ranges
}

// seen records the result of a query.
func (f *floors) seen(rows []*row) {
	f.first = map[int]int64{}
	if len(rows) > 0 {
		f.highest = 0 // ids are lower after an operator has reset the sequence
	}
	for _, r := range rows {
		if id, ok := f.first[r.shard]; !ok || r.id < id {
			f.first[r.shard] = r.id
		}
		f.highest = max(f.highest, r.id)
	}
	f.confirmed = f.ended
}

// update makes the steps that are possible, with at most one query in each floorInterval.
func (f *floors) update(ctx context.Context, r *Relay, shards []int) error {
	if !slices.Equal(shards, f.shards) { // each query of the three steps must include the same shards
		f.shards, f.first = shards, nil
		f.abandon()
	}
	if f.confirmed {
		f.rise()
	}
	query := r.outbox.dialect.writers()
	if query == "" || time.Now().Before(f.next) || f.first == nil {
		return nil
	}
	f.next = time.Now().Add(floorInterval)
	writers, err := readWriters(ctx, r, query)
	if err != nil {
		return err
	}
	if f.candidates == nil {
		f.propose()
		f.writers = writers
	}
	maps.DeleteFunc(f.writers, func(id string, _ bool) bool { return !writers[id] })
	f.ended = len(f.writers) == 0
	return nil
}

// propose makes candidates of the result of the last query. Ids rise with time, so only transactions that are open now can
// still add messages below its highest id.
func (f *floors) propose() {
	f.candidates = map[int]int64{}
	for _, shard := range f.shards {
		f.candidates[shard] = f.highest
		if id, ok := f.first[shard]; ok {
			f.candidates[shard] = id - 1
		}
	}
}

func (f *floors) rise() {
	for shard, id := range f.candidates {
		if first, ok := f.first[shard]; ok {
			id = min(id, first-1)
		}
		f.ids[shard] = max(f.ids[shard], id)
	}
	f.abandon()
}

func (f *floors) abandon() { f.candidates, f.ended, f.confirmed = nil, false, false }

// readWriters returns the transactions that may have added messages and have not ended.
func readWriters(ctx context.Context, r *Relay, query string) (map[string]bool, error) {
	rows, err := r.db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	writers := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		writers[id] = true
	}
	return writers, rows.Err()
}

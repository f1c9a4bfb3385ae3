package soak

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestReadOrdersRecordsByTime(t *testing.T) {
	var b bytes.Buffer
	h := NewHistory(&b)
	at := func(s float64, id string) {
		h.PutAt(h.began.Add(time.Duration(s*float64(time.Second))), Record{Outcome: &Outcome{ID: id}})
	}
	for _, x := range []struct {
		at float64
		id string
	}{{1, "a"}, {3, "c"}, {3, "d"}, {2, "b"}, {100, "g"}, {75, "f"}, {71, "e"}} { // a proxy may report half a minute late
		at(x.at, x.id)
	}
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	got := ""
	for r, err := range Read(&b) {
		if err != nil {
			t.Fatal(err)
		}
		got += r.Outcome.ID
	}
	if got != "abcdefg" {
		t.Errorf("read in the order %q", got)
	}
}

func TestReadRejectsRecordsOutOfOrder(t *testing.T) {
	in := `{"t":1000000000}` + "\n" + `{"t":40000000000}` + "\n" + `{"t":2000000000}` + "\n" + `{"t":100000000}` + "\n"
	for _, err := range Read(strings.NewReader(in)) {
		if err != nil {
			if !strings.Contains(err.Error(), "record 4 is out of order") {
				t.Errorf("%v", err)
			}
			return
		}
	}
	t.Error("Read accepted a record older than the records already returned")
}

func TestJudgeRejectsATruncatedRecord(t *testing.T) {
	_, err := Judge(strings.NewReader(`{"t":1,"outcome":{"i`))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Judge = %v", err)
	}
}

func TestJudgeReportsAHistoryWithoutEndAsInvalid(t *testing.T) {
	r, err := Judge(strings.NewReader(`{"t":1,"publish":{"id":"m"}}`))
	if err != nil || r.Verdict != Invalid || !strings.Contains(r.Reasons[0], "incomplete") {
		t.Errorf("%+v, %v", r, err)
	}
}

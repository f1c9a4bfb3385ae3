package main

import (
	"slices"
	"testing"
)

func TestCheckerListsEveryDifference(t *testing.T) {
	t.Setenv(ordersVar, "file:"+t.TempDir()+"/orders.db")
	t.Setenv(billingVar, "file:"+t.TempDir()+"/billing.db")
	var databases []*database
	for _, variable := range []string{ordersVar, billingVar} {
		db, err := openDatabase(t.Context(), variable)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		databases = append(databases, db)
	}
	for i, rows := range []string{
		"(1, 'a', 10, 'new'), (2, 'a', 10, 'new'), (4, 'a', 10, 'new'), (5, 'b', 20, 'paid'), (6, 'a', 10, 'new')",
		"(2, 'a', 10, 'new'), (3, 'a', 10, 'new'), (4, 'a', 11, 'paid'), (5, 'c', 20, 'paid'), (7, 'a', 10, 'new')",
	} {
		if _, err := databases[i].ExecContext(t.Context(), "INSERT INTO orders (id, customer, cents, status) VALUES "+rows); err != nil {
			t.Fatal(err)
		}
	}
	got, rows, err := compare(t.Context(), databases[0].DB, databases[1].DB)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"missing in billing: order 1",
		"surplus in billing: order 3",
		"different: order 4, cents is 10 in orders and 11 in billing",
		"different: order 4, status is new in orders and paid in billing",
		"different: order 5, customer is b in orders and c in billing",
		"missing in billing: order 6",
		"surplus in billing: order 7",
	}
	if !slices.Equal(got, want) || rows != 5 {
		t.Errorf("compare = %q and %d orders, want %q and 5 orders", got, rows, want)
	}
}

func TestDSNsNameTheirDatabase(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u:p@host/":                   "postgres://u:p@host/x",
		"postgresql://u@host/db?sslmode=disable": "postgresql://u@host/x?sslmode=disable",
		"host=/run user=u dbname=db":             "host=/run user=u dbname=db dbname=x",
	} {
		if got := withDatabase(dsn, "x"); got != want {
			t.Errorf("withDatabase(%q) = %q, want %q", dsn, got, want)
		}
	}
}

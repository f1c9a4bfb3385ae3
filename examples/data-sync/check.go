package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// compare returns a line for every difference between two tables of orders: rows that the copy lacks, surplus rows, and
// columns with different values. It reads both tables in the order of their ids, so that it needs no memory for them.
func compare(ctx context.Context, original, copied *sql.DB) (differences []string, rows int, err error) {
	a, err := scan(ctx, original)
	if err != nil {
		return nil, 0, err
	}
	defer a.Close()
	b, err := scan(ctx, copied)
	if err != nil {
		return nil, 0, err
	}
	defer b.Close()
	a.next()
	b.next()
	for a.ok || b.ok {
		switch {
		case !b.ok || a.ok && a.ID < b.ID:
			differences = append(differences, fmt.Sprintf("missing in billing: order %d", a.ID))
			rows++
			a.next()
		case !a.ok || b.ID < a.ID:
			differences = append(differences, fmt.Sprintf("surplus in billing: order %d", b.ID))
			b.next()
		default:
			differences = append(differences, columns(a.Order, b.Order)...)
			rows++
			a.next()
			b.next()
		}
	}
	return differences, rows, errors.Join(a.err, b.err)
}

// columns returns a line for each column that differs.
func columns(a, b Order) (lines []string) {
	for _, c := range []struct {
		name string
		a, b any
	}{{"customer", a.Customer, b.Customer}, {"cents", a.Cents, b.Cents}, {"status", a.Status, b.Status}} {
		if c.a != c.b {
			lines = append(lines, fmt.Sprintf("different: order %d, %s is %v in orders and %v in billing", a.ID, c.name, c.a, c.b))
		}
	}
	return lines
}

// A scanner reads orders. If ok is false, there are no more, or err is the reason.
type scanner struct {
	*sql.Rows
	Order
	ok  bool
	err error
}

func scan(ctx context.Context, db *sql.DB) (*scanner, error) {
	rows, err := db.QueryContext(ctx, "SELECT id, customer, cents, status FROM orders ORDER BY id")
	return &scanner{Rows: rows}, err
}

func (s *scanner) next() {
	if s.ok = s.Next(); s.ok {
		s.err = s.Scan(&s.ID, &s.Customer, &s.Cents, &s.Status)
		s.ok = s.err == nil
		return
	}
	s.err = s.Err()
}

// runCheck prints every difference between the databases of the services.
func runCheck(ctx context.Context) error {
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
	return printDifferences(ctx, orders.DB, billing.DB)
}

var errDifferent = errors.New("the databases differ")

func printDifferences(ctx context.Context, orders, billing *sql.DB) error {
	differences, rows, err := compare(ctx, orders, billing)
	if err != nil {
		return err
	}
	for _, d := range differences {
		fmt.Println("check:", d)
	}
	fmt.Printf("check: %d orders, %d differences\n", rows, len(differences))
	if len(differences) > 0 {
		return errDifferent
	}
	return nil
}

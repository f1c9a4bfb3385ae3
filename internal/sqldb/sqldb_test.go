package sqldb

import (
	"strings"
	"testing"
)

func TestBindNumbersThePlaceholdersOfPostgreSQL(t *testing.T) {
	const query = "INSERT INTO t VALUES (?, ?), (?, now())"
	for dialect, want := range map[Dialect]string{
		PostgreSQL: "INSERT INTO t VALUES ($1, $2), ($3, now())",
		SQLite:     query,
		MySQL:      query,
	} {
		if got := dialect.Bind(query); got != want {
			t.Errorf("%s: %s", dialect, got)
		}
	}
}

func TestTableNamesAreQuoted(t *testing.T) {
	for _, c := range []struct {
		dialect           Dialect
		name, want, index string
	}{
		{PostgreSQL, "Order", `"Order"`, `CREATE INDEX IF NOT EXISTS "Order_x" ON "Order" (a)`},
		{PostgreSQL, "app.order", `"app"."order"`, `CREATE INDEX IF NOT EXISTS "order_x" ON "app"."order" (a)`},
		{SQLite, "app.order", `"app"."order"`, `CREATE INDEX IF NOT EXISTS "app"."order_x" ON "order" (a)`},
		{MySQL, "app._1", "`app`.`_1`", "CREATE INDEX IF NOT EXISTS `_1_x` ON `app`.`_1` (a)"},
	} {
		table, problem := c.dialect.Table(c.name)
		if problem != nil {
			t.Fatal(problem)
		}
		if got := table.String(); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
		if got := table.CreateIndex("_x", "a"); got != c.index {
			t.Errorf("%s: %s", c.name, got)
		}
		if got, want := table.Companion("_meta").String(), strings.TrimRight(c.want, "`\"")+"_meta"+c.want[len(c.want)-1:]; got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
}

func TestOtherTableNamesAreRefused(t *testing.T) {
	for _, name := range []string{"", ".", "a.", ".a", "a.b.c", "1a", "a b", `a"b`, "a`b", "a;--", "ä", "a\n", strings.Repeat("a", 49), strings.Repeat("a", 49) + ".b"} {
		if _, problem := PostgreSQL.Table(name); problem == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	long := strings.Repeat("a", 48)
	if _, problem := PostgreSQL.Table(long + "." + long); problem != nil {
		t.Error(problem)
	}
}

func TestUnknownDialectsAreRefused(t *testing.T) {
	for _, d := range []Dialect{"", "postgres", "MySQL"} {
		if d.Check() == nil {
			t.Errorf("%q is accepted", d)
		}
	}
	for _, d := range []Dialect{PostgreSQL, SQLite, MySQL} {
		if p := d.Check(); p != nil {
			t.Error(p)
		}
	}
}

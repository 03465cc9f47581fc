// SPDX-License-Identifier: Apache-2.0

// What a Go service does with pgx, in the same order every time; prints what it got. "masked" reads one hidden row.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func say(words ...any) {
	text, err := json.Marshal(words)
	must(err)
	fmt.Println(string(text))
}

func code(err error) string {
	var fault *pgconn.PgError
	if errors.As(err, &fault) {
		return fault.Code + " " + fault.Message
	}
	return fmt.Sprint(err)
}

func rows(ctx context.Context, conn *pgx.Conn, text string, arguments ...any) []map[string]any {
	found, err := conn.Query(ctx, text, arguments...)
	must(err)
	read, err := pgx.CollectRows(found, pgx.RowToMap)
	must(err)
	return read
}

func values(ctx context.Context, conn *pgx.Conn) {
	say(rows(ctx, conn, `select 1::int2 a, 2::int8 b, 1.5::float8 c, 12.50::numeric d, true e, 'x'::text f, '\x0102'::bytea g,
		'2026-01-02'::date h, '{"a":[1]}'::jsonb j, array[1,2] k, null l, interval '1 day' m, int4range(1, 5) n`))
	say(rows(ctx, conn, "select $1::int + 1 a, $2::text b, $3::jsonb c, $4::int[] d", 1, "t'x", map[string]int{"k": 1}, []int32{1, 2}))
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for number := 1; number <= 3; number++ {
			say(mode.String(), rows(ctx, conn, "select id, name, tags from app.people where id = $1", mode, number))
		}
	}
	mood, err := conn.LoadType(ctx, "app.mood")
	must(err)
	conn.TypeMap().RegisterType(mood)
	place, err := conn.LoadType(ctx, "app.place")
	must(err)
	conn.TypeMap().RegisterType(place)
	say("own types", rows(ctx, conn, "select 'happy'::app.mood a, row('x', 1)::app.place b"))
}

func transactions(ctx context.Context, conn *pgx.Conn) {
	tx, err := conn.Begin(ctx)
	must(err)
	var title string
	must(tx.QueryRow(ctx, "insert into app.items (title, price) values ($1, $2) returning title", "lamp", 7.5).Scan(&title))
	nested, err := tx.Begin(ctx)
	must(err)
	_, err = nested.Exec(ctx, "select 1 / $1::int", 0)
	say("fault", code(err))
	must(nested.Rollback(ctx))
	changed, err := tx.Exec(ctx, "update app.items set stock = stock - 1 where title = $1", title)
	must(err)
	say("changed", changed.RowsAffected())
	must(tx.Rollback(ctx))
	_, err = conn.Exec(ctx, "select * from nowhere")
	say("unknown", code(err))
}

func batches(ctx context.Context, conn *pgx.Conn) {
	batch := &pgx.Batch{}
	for number := range 5 {
		batch.Queue("select $1::int * 2", number)
	}
	results := conn.SendBatch(ctx, batch)
	var twice []int
	for range 5 {
		var value int
		must(results.QueryRow().Scan(&value))
		twice = append(twice, value)
	}
	must(results.Close())
	say("batch", twice)
}

func copies(ctx context.Context, conn *pgx.Conn) {
	tx, err := conn.Begin(ctx)
	must(err)
	count, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "plain"}, []string{"id", "label"}, pgx.CopyFromRows([][]any{{71, "one"}, {72, "two"}}))
	must(err)
	var out bytes.Buffer
	_, err = tx.Conn().PgConn().CopyTo(ctx, &out, "copy (select id, label from public.plain where id > 70 order by id) to stdout")
	must(err)
	say("copy", count, out.String())
	must(tx.Rollback(ctx))
}

func notices(ctx context.Context, conn *pgx.Conn) {
	_, err := conn.Exec(ctx, "listen lamp")
	must(err)
	_, err = conn.Exec(ctx, "notify lamp, 'on'")
	must(err)
	told, err := conn.WaitForNotification(ctx)
	must(err)
	say("notification", told.Channel, told.Payload)
}

func cancelled(ctx context.Context, conn *pgx.Conn) {
	_, err := conn.Exec(ctx, "set statement_timeout = '20s'") // what nobody cancels ends by itself
	must(err)
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	_, err = conn.Exec(short, "select count(*) from pg_class a, pg_class b, pg_class c, pg_class d")
	say("cancelled", err != nil, conn.IsClosed())
}

func pooled(ctx context.Context) {
	pool, err := pgxpool.New(ctx, "")
	must(err)
	defer pool.Close()
	sum := make(chan int)
	for number := range 6 {
		go func() {
			var twice int
			must(pool.QueryRow(ctx, "select $1::int * 2", number).Scan(&twice))
			sum <- twice
		}()
	}
	total := 0
	for range 6 {
		total += <-sum
	}
	say("pool", total)
}

func standard() {
	db, err := sql.Open("pgx", "")
	must(err)
	defer db.Close()
	statement, err := db.Prepare("select title from app.items where id = $1")
	must(err)
	var title sql.NullString
	err = statement.QueryRow(1).Scan(&title)
	say("database/sql", title.String, fmt.Sprint(err))
}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	conn, err := pgx.Connect(ctx, "")
	must(err)
	if len(os.Args) > 1 && os.Args[1] == "masked" {
		text := "select name, ssn, card, email from customers where id = $1"
		say(rows(ctx, conn, text, 1), rows(ctx, conn, text, pgx.QueryExecModeSimpleProtocol, 1))
		_, err = conn.Exec(ctx, "drop database orders")
		say("refused", strings.SplitN(code(err), " ", 2)[0])
		return
	}
	values(ctx, conn)
	transactions(ctx, conn)
	batches(ctx, conn)
	copies(ctx, conn)
	notices(ctx, conn)
	pooled(ctx)
	standard()
	cancelled(ctx, conn)
}

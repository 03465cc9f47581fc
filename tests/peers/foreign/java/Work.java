// SPDX-License-Identifier: Apache-2.0

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** What a Java service and a database tool do with the JDBC driver, in the same order every time; prints what it got. */
public class Work {
    static String show(ResultSet found) throws SQLException {
        ResultSetMetaData shape = found.getMetaData();
        StringBuilder out = new StringBuilder();
        for (int i = 1; i <= shape.getColumnCount(); i++) {
            out.append(shape.getColumnLabel(i)).append(':').append(shape.getColumnTypeName(i)).append(' ');
        }
        List<String> rows = new ArrayList<>();
        while (found.next()) {
            StringBuilder row = new StringBuilder();
            for (int i = 1; i <= shape.getColumnCount(); i++) row.append(found.getString(i)).append('|');
            rows.add(row.toString());
        }
        found.close();
        return out + "\n  " + String.join("\n  ", rows);
    }

    static void say(String what, Object value) {
        System.out.println("== " + what + "\n" + value);
    }

    static String failed(Statement statement, String text) {
        try {
            statement.execute(text);
            return "passed";
        } catch (SQLException error) {
            return error.getSQLState() + " " + error.getMessage();
        }
    }

    /** Everything DatabaseMetaData can be asked; what database tools and ORMs start with. */
    static void metadata(Connection c) throws SQLException {
        DatabaseMetaData m = c.getMetaData();
        say("getCatalogs", show(m.getCatalogs()));
        say("getSchemas", show(m.getSchemas()));
        say("getTableTypes", show(m.getTableTypes()));
        say("getTypeInfo", show(m.getTypeInfo()));
        say("getClientInfoProperties", show(m.getClientInfoProperties()));
        for (String schema : new String[] {"app", "public", null}) {
            say("getTables " + schema, show(m.getTables(null, schema, "%", null)));
            say("getFunctions " + schema, show(m.getFunctions(null, schema, "t%")));
            say("getUDTs " + schema, show(m.getUDTs(null, schema, "%", null)));
        }
        for (String schema : new String[] {"app", "public"}) {
            say("getColumns " + schema, show(m.getColumns(null, schema, "%", "%")));
            say("getProcedures " + schema, show(m.getProcedures(null, schema, "%")));
            say("getProcedureColumns " + schema, show(m.getProcedureColumns(null, schema, "%", "%")));
            say("getFunctionColumns " + schema, show(m.getFunctionColumns(null, schema, "%", "%")));
            say("getTablePrivileges " + schema, show(m.getTablePrivileges(null, schema, "%")).length() > 0);
        }
        for (String table : new String[] {"people", "items", "sales"}) {
            say("getPrimaryKeys " + table, show(m.getPrimaryKeys(null, "app", table)));
            say("getImportedKeys " + table, show(m.getImportedKeys(null, "app", table)));
            say("getExportedKeys " + table, show(m.getExportedKeys(null, "app", table)));
            say("getIndexInfo " + table, show(m.getIndexInfo(null, "app", table, false, true)));
            say("getBestRowIdentifier " + table, show(m.getBestRowIdentifier(null, "app", table, DatabaseMetaData.bestRowSession, true)));
            say("getVersionColumns " + table, show(m.getVersionColumns(null, "app", table)));
        }
        say("getCrossReference", show(m.getCrossReference(null, "app", "people", null, "app", "sales")));
        say("words", m.getMaxColumnNameLength() + m.getSQLKeywords() + m.getDefaultTransactionIsolation() + m.getDatabaseProductVersion());
    }

    static void values(Connection c) throws SQLException {
        String text = "select $$x$$ a, 1::int8 b, 1.5::float8 c, 12.50::numeric d, true e, '\\x0102'::bytea g, date '2026-01-02' h,"
            + " timestamptz '2026-01-02 03:04:05+00' i, '{\"a\":1}'::jsonb j, array[1,2] k, 'happy'::app.mood m, uuid '00000000-0000-0000-0000-000000000001' u";
        try (Statement s = c.createStatement()) {
            say("simple", show(s.executeQuery(text)));
        }
        try (PreparedStatement s = c.prepareStatement("select id, name, born, tags from app.people where id = ?")) {
            for (int i = 1; i <= 8; i++) {                       // from the fifth on a server-side statement, then in binary
                s.setInt(1, i % 3 + 1);
                say("prepared " + i, show(s.executeQuery()));
            }
        }
        try (PreparedStatement s = c.prepareStatement("select ?::text, ?::numeric, ?::timestamp, ?::int[]")) {
            s.setString(1, "t'x");
            s.setBigDecimal(2, new java.math.BigDecimal("10.25"));
            s.setTimestamp(3, Timestamp.valueOf("2026-01-02 03:04:05"));
            s.setArray(4, c.createArrayOf("int4", new Object[] {1, 2}));
            say("parameters", show(s.executeQuery()));
        }
    }

    static void transactions(Connection c) throws Exception {
        c.setAutoCommit(false);
        try (PreparedStatement s = c.prepareStatement("insert into app.items (title, price) values (?, ?)", new String[] {"title", "stock"})) {
            for (int i = 0; i < 3; i++) {
                s.setString(1, "lamp " + i);
                s.setBigDecimal(2, new java.math.BigDecimal("7.50"));
                s.addBatch();
            }
            say("batch", Arrays.toString(s.executeBatch()));
            say("generated", show(s.getGeneratedKeys()));
        }
        Savepoint point = c.setSavepoint();
        try (Statement s = c.createStatement()) {
            say("fault", failed(s, "select 1/0"));
            c.rollback(point);
            say("changed", s.executeUpdate("update app.items set stock = stock - 1 where title like 'lamp%'"));
            s.setFetchSize(7);
            ResultSet rows = s.executeQuery("select n from generate_series(1, 50) n");
            int sum = 0;
            while (rows.next()) sum += rows.getInt(1);
            say("fetched in parts", sum);
            CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
            say("copy in", copy.copyIn("copy public.plain (id, label) from stdin", new StringReader("71\tone\n72\ttwo\n")));
            StringWriter out = new StringWriter();
            copy.copyOut("copy (select id, label from public.plain where id > 70 order by id) to stdout", out);
            say("copy out", out);
        }
        c.rollback();
        c.setAutoCommit(true);
        try (Statement s = c.createStatement()) {
            say("unknown", failed(s, "select * from nowhere"));
            s.setQueryTimeout(1);
            say("timeout", failed(s, "select count(*) from pg_class a, pg_class b, pg_class c, pg_class d"));
        }
        try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY)) {
            ResultSet rows = s.executeQuery("select n from generate_series(1, 5) n");
            rows.absolute(4);
            say("scrolled", rows.getInt(1));
        }
        c.setReadOnly(true);
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        say("isolation", c.getTransactionIsolation() + " " + c.isValid(5) + " " + c.getSchema());
    }

    static void masked(Connection c) throws SQLException {
        try (PreparedStatement s = c.prepareStatement("select name, ssn, card, email from customers where id = ?")) {
            for (int i = 0; i < 7; i++) {
                s.setInt(1, 1);
                say("row", show(s.executeQuery()));
            }
        }
        try (Statement s = c.createStatement()) {
            say("refused", failed(s, "drop database orders"));
        }
    }

    public static void main(String[] words) throws Exception {
        Map<String, String> e = System.getenv();
        Properties p = new Properties();
        p.setProperty("user", e.get("PGUSER"));
        p.setProperty("password", e.get("PGPASSWORD"));
        p.setProperty("sslmode", e.getOrDefault("PGSSLMODE", "disable"));
        if (e.containsKey("PGSSLROOTCERT")) p.setProperty("sslrootcert", e.get("PGSSLROOTCERT"));
        for (String word : words) if (word.contains("=")) p.setProperty(word.split("=")[0], word.split("=")[1]);
        String database = java.net.URLEncoder.encode(e.get("PGDATABASE"), "UTF-8");
        try (Connection c = DriverManager.getConnection("jdbc:postgresql://" + e.get("PGHOST") + ":" + e.get("PGPORT") + "/" + database, p)) {
            if (words.length > 0 && words[0].equals("masked")) {
                masked(c);
            } else {
                metadata(c);
                values(c);
                transactions(c);
            }
        }
    }
}

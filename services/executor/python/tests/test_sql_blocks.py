"""SQL blocks on real DuckDB and PostgreSQL; statement splitting."""
from __future__ import annotations

import json
import os
import shutil
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from postgres import PrivatePostgres, find_binaries
from support import ProjectCase

from orrery_runner.sql import statements

FRAME = """
import pandas as pd, datetime, decimal
@data_loader
def f(*args, **kwargs):
    return pd.DataFrame({'id': [1, 2, 3], 'Name of': ['a', None, 'c'], 'x': [1.5, None, 3.5], 'ok': [True, False, True],
                         'at': pd.to_datetime(['2024-01-01', None, '2024-01-03'], utc=True), 'many': [[1], None, {'k': 2}],
                         'day': [datetime.date(2024, 1, 1), None, datetime.date(2024, 1, 3)],
                         'n': pd.array([1, None, 3], dtype='Int64')})
"""


class Statements(unittest.TestCase):
    def test_split(self) -> None:
        for text, expected in [
                ("select 1", ["select 1"]), ("a;b;", ["a", "b"]), ("select ';'; b", ["select ';'", "b"]),
                ("select 'it''s;'; b", ["select 'it''s;'", "b"]), ('select ";"', ['select ";"']),
                ("a -- ;\n;b", ["a -- ;", "b"]), ("a /* ; /* ; */ ; */; b", ["a /* ; /* ; */ ; */", "b"]),
                ("do $$ begin; end $$; b", ["do $$ begin; end $$", "b"]), ("$x$ ; $y$ ; $x$;b", ["$x$ ; $y$ ; $x$", "b"]),
                (" ; -- only\n;", []), ("'open ; ", ["'open", ] if False else ["'open"])]:
            self.assertEqual(statements.split(text), expected, text)


    def test_the_table_that_is_written(self) -> None:
        for text, expected, lasting in [
                ("SELECT * FROM l WHERE q LIKE '% insert into foo%'", None, None), ("INSERT INTO a.b SELECT 1", "a.b", "a.b"),
                ("SELECT $$ insert into foo $$", None, None), ('INSERT INTO "a(b" VALUES (1)', '"a(b"', '"a(b"'),
                ("-- insert into foo\nSELECT 1", None, None), ("CREATE TEMP TABLE t AS SELECT 1", "t", None),
                ("CREATE UNLOGGED TABLE IF NOT EXISTS t (n int)", "t", "t")]:
            found = statements.split(text)
            self.assertEqual(statements.written_table(found), expected, text)
            self.assertEqual(statements.written_table(found, lasting=True), lasting, text)
        for text, expected in [("WITH x AS (\nINSERT INTO t SELECT 1\n) SELECT ')' FROM y", None),
                               ("WITH x AS (SELECT 1) INSERT INTO t SELECT f(1) FROM x", "t")]:
            self.assertEqual(statements.written_table([statements.outer(text)]), expected, text)


class Behaviour:
    """What both databases do alike."""

    provider = loader = ""

    def setUp(self) -> None:
        super().setUp()
        self.profile("default")
        self.block("frame", FRAME)
        self.ok("frame")

    def profile(self, name: str) -> None:
        raise NotImplementedError

    def sql(self, uuid: str, text: str, upstream: tuple = (), kind: str = "transformer", **configuration) -> None:
        self.block(uuid, text, kind, "sql", upstream,
                   configuration={"data_provider": self.provider, "data_provider_profile": "default", **configuration})

    def rows(self, uuid: str) -> list:
        return self.stored(uuid)[0].astype(object).values.tolist()

    def test_frames_become_tables_and_back(self) -> None:
        self.sql("all", "SELECT * FROM {{ df_1 }} ORDER BY id -- all of it\n;", ("frame",), use_raw_sql=True)
        self.ok("all")
        frame = self.stored("all")[0]
        self.assertEqual(list(frame.columns), ["id", "name_of", "x", "ok", "_at", "many", "_day", "n"])
        self.assertEqual(frame["name_of"].tolist()[0], "a")
        self.assertTrue(frame["x"].isna().tolist() == [False, True, False])
        self.assertEqual(str(frame["_at"].dtype)[:10], "datetime64")
        self.assertEqual(frame["_at"][2].day, 3)
        self.assertEqual(frame["ok"].tolist(), [True, False, True])

    def test_query_fills_its_table_by_policy(self) -> None:
        self.sql("q", "SELECT id FROM {{ df_1 }} WHERE id > {{ least }}", ("frame",), export_write_policy="replace")
        for _ in range(2):
            self.ok("q", variables={"least": 1})
            self.assertEqual(sorted(self.rows("q")), [[2], [3]])
            shutil.rmtree(self.dir_of("q"))
        self.sql("next", "SELECT count(*) AS n FROM {{ df_1 }}", ("q",))
        os.makedirs(self.dir_of("q"))
        self.ok("next")
        self.assertEqual(self.rows("next"), [[2]])
        self.ok("next", output_dir=self.dir_of("again"))
        self.assertEqual(len(self.stored("again")[0]), 2)
        self.sql("own", "SELECT 1 AS a", data_provider_table="mine", data_provider_schema="other",
                 export_write_policy="fail")
        self.ok("own")
        self.fails("own", "USER_CODE", "mine", "exists already", output_dir=self.dir_of("own2"))
        self.sql("read", "select a from other.mine", use_raw_sql=True)
        self.ok("read")
        self.assertEqual(self.rows("read"), [[1]])

    def test_raw_statements_and_limits(self) -> None:
        self.sql("raw", "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x;y'), (2, 'z'), (3, 'w');\n"
                        "SELECT * FROM t ORDER BY a; -- done", use_raw_sql=True, limit_in_pipeline_run=2)
        self.ok("raw")
        self.assertEqual(self.rows("raw"), [[1, "x;y"], [2, "z"]])
        self.sql("none", "DELETE FROM t WHERE a = 1;", use_raw_sql=True, kind="data_exporter")
        self.assertEqual(self.ok("none")["outputs"], [])
        self.sql("whole", "INSERT INTO t VALUES (9, '{{ word }}%;'); INSERT INTO t SELECT id + 10, 'f' FROM {{ df_1 }};\n-- done",
                 ("frame",), use_raw_sql=True, disable_query_preprocessing=True)
        self.assertEqual(self.ok("whole", variables={"word": "w"})["outputs"], [])
        self.sql("look", "SELECT a, b FROM t WHERE a >= {{ least }}", disable_query_preprocessing=True)
        self.ok("look", variables={"least": 9})
        self.assertEqual(sorted(self.rows("look")), [[9, "w%;"], [11, "f"], [12, "f"], [13, "f"]])
        self.sql("filled", "SELECT count(*) AS n FROM {{ df_1 }}", ("look",), use_raw_sql=True)
        self.ok("filled")
        self.assertEqual(self.rows("filled"), [[4]])
        self.sql("bad", "INSERT INTO t VALUES (10, 'x'); SELECT * FROM nowhere", use_raw_sql=True)
        failed = self.fails("bad", "USER_CODE", "nowhere")
        self.assertNotIn("orrery_runner", failed["traceback"])
        self.assertIn("nowhere", failed["traceback"])

    def test_templates(self) -> None:
        self.block("value", "@data_loader\ndef f(): return {'k': [7, {'a': 8}]}\n")
        self.ok("value")
        self.sql("t", "SELECT {{ block_output('value', parse=lambda data, v: {'x': data['k'][1]['a']}['x'] + v['plus']) }} AS a, "
                      "'{{ variables('word') }}' AS b, '{{ env_var('PLACE') }}' AS c, '{{ ds }}' AS d, "
                      "{{ block_output(parse=lambda all, _: len(all)) }} AS e, "
                      "{% if word == 'w' %}1{% else %}2{% endif %} AS f, '{{ execution_date.year }}' AS g",
                 ("value",), use_raw_sql=True)
        self.ok("t", variables={"word": "w", "plus": 10}, request={"env": {"PLACE": "here"}})
        self.assertEqual(self.rows("t"), [[18, "w", "here", "2024-02-29", 1, 1, "2024"]])
        self.sql("u", "SELECT {{ nowhere }}", use_raw_sql=True)
        self.fails("u", "USER_CODE", "block u", "nowhere")
        for text, said in (("{{ variables('gone') }}", "variables('gone') is not defined"),
                           ("{{ variables('gone') ~ '1' }}", "variables('gone') is not defined"),
                           ("{{ env_var('GONE') }}", "env_var('GONE') is not set"),
                           ("{{ mage_secret_var('gone') }}", "no secret gone")):
            self.sql("v", f"SELECT {text}", use_raw_sql=True)
            self.fails("v", "USER_CODE", "block v: ", said)
        self.sql("w", "SELECT {% if variables('gone') %}1{% else %}2{% endif %} AS a, '{{ env_var('GONE') or 'other' }}' AS b, "
                      "'{{ variables('gone') | default('none') }}' AS c, {% if variables('gone') == 'x' %}1{% else %}2{% endif %}"
                      " AS d", use_raw_sql=True)
        self.ok("w")
        self.assertEqual(self.rows("w"), [[2, "other", "none", 2]])

    def test_rows_of_a_data_product(self) -> None:
        self.block("product", "import pandas as pd\n@data_loader\ndef f(): return {'made': [pd.DataFrame({'amount': [1, 2]})]}\n")
        self.ok("product")
        self.block("product", None, "global_data_product", file=None)
        self.sql("s", "SELECT sum(amount) AS s FROM {{ df_1 }}", ("product",), use_raw_sql=True)
        self.ok("s")
        self.assertEqual(float(self.rows("s")[0][0]), 3)

    def test_list_inputs_and_named_uploads(self) -> None:
        self.block("dicts", "@data_loader\ndef f(): return [{'Amount': i} for i in range(5)]\n")
        self.ok("dicts")
        self.sql("s", "SELECT sum(amount) AS s FROM {{ df_1 }}", ("dicts",), use_raw_sql=True,
                 upstream_block_configuration={"dicts": {"table_name": "landing"}})
        self.ok("s")
        self.assertEqual(float(self.rows("s")[0][0]), 10)
        self.sql("l", "SELECT count(*) AS n FROM landing", use_raw_sql=True)
        self.ok("l")
        self.assertEqual(self.rows("l"), [[5]])
        # What lands there next time may have other columns.
        self.block("dicts", "@data_loader\ndef f(): return [{'a': 1, 'b': 2}, {'a': 3, 'b': 4}]\n")
        shutil.rmtree(self.dir_of("dicts"))
        self.ok("dicts")
        self.blocks["s"]["file"] = self.block("again", "SELECT sum(b) AS s FROM {{ df_1 }}", "transformer", "sql")["file"]
        self.ok("s", output_dir=self.dir_of("again"))
        self.assertEqual(float(self.rows("again")[0][0]), 6)

    def with_loader(self, statements: str) -> None:
        """Runs a block `io` that does this with an open `loader` and returns what was `found`."""
        self.block("io", f"""
from mage_ai.io.config import ConfigFileLoader
from mage_ai.io.{self.provider} import {self.loader} as Loader
import pandas as pd
@data_loader
def f(**kwargs):
    found = []
    with Loader.with_config(ConfigFileLoader(), verbose=False) as loader:
{statements}
    return found
""")
        self.ok("io")

    def test_replace_empties_a_table_and_drops_it_only_where_asked(self) -> None:
        self.with_loader("""
        loader.execute("CREATE TABLE t (note text DEFAULT 'made', b text, a int PRIMARY KEY)")
        loader.execute("CREATE VIEW seen AS SELECT a, b, note FROM t")
        loader.commit()
        look = lambda: found.append(loader.load('SELECT a, b, note FROM seen ORDER BY a').astype(object).values.tolist())
        for b in 'xy':
            loader.export(pd.DataFrame({'a': [1, 2], 'b': [b, b]}), None, 't', if_exists='replace')
            look()
        loader.export(None, None, 't', if_exists='replace', query_string="SELECT note, b || '!' AS b, a + 1 AS a FROM t WHERE a = 2")
        look()
        loader.execute('DROP VIEW seen')
        loader.export(pd.DataFrame({'d': [7]}), None, 't', if_exists='replace', drop_table_on_replace=True)
        found.append(loader.load('SELECT * FROM t').astype(object).values.tolist())
        loader.export(None, None, 't', if_exists='replace', drop_table_on_replace=True, query_string='SELECT d, 8 AS e FROM t')
        found.append(loader.load('SELECT * FROM t').astype(object).values.tolist())
""")
        self.assertEqual(self.stored("io"), [
            [[1, "x", "made"], [2, "x", "made"]], [[1, "y", "made"], [2, "y", "made"]], [[3, "y!", "made"]], [[7]], [[7, 8]]])

    def test_columns_of_a_table_that_is_there_are_found_by_their_names(self) -> None:
        self.with_loader("""
        # As Mage makes it of columns that are called date, US$ and Name.
        loader.execute("CREATE TABLE t (id int PRIMARY KEY, _date timestamp, us text, _name text)")
        loader.commit()
        look = lambda: found.append(loader.load('SELECT id, _date::text AS at, us, _name FROM t ORDER BY id').astype(object).values.tolist())
        frame = pd.DataFrame({'Name': ['n'], 'US$': ['7'], 'id': [1], 'date': ['2024-05-06 07:08:09']})
        loader.export(frame, None, 't', if_exists='append')
        look()
        # Its types are the table's, whatever the frame's are.
        loader.export(frame.assign(Name='m'), None, 't', if_exists='append', unique_constraints=['id'],
                      unique_conflict_method='UPDATE')
        look()
        loader.export(None, None, 't', if_exists='replace', query_string='SELECT _name AS us, us AS _name, id, _date FROM t')
        look()
        for lost in (dict(df=frame.assign(more=1)), dict(df=None, query_string='SELECT 1 AS id, 2 AS more')):
            try:
                loader.export(schema_name=None, table_name='t', if_exists='replace', **lost)
            except ValueError as error:
                found.append("no column '_more'" in str(error) or "no column 'more'" in str(error) and 'drop_table_on_replace' in str(error))
            look()
""")
        row = [1, "2024-05-06 07:08:09"]
        swapped = [[*row, "m", "7"]]
        self.assertEqual(self.stored("io"), [
            [[*row, "7", "n"]], [[*row, "7", "m"]], swapped, True, swapped, True, swapped])

    def test_new_tables_have_the_names_that_mage_gives(self) -> None:
        self.with_loader("""
        frame = pd.DataFrame([[1, 2, 3, 4, 5, 6]], columns=['Date', 'US$', ' User Id', '1.st', 'letter', 'Ünit-x'])
        names = lambda table: sorted(name for name in loader.load('SELECT * FROM ' + table).columns)
        loader.export(frame, None, 'made')
        loader.export(frame, None, 'kept', allow_reserved_words=True)
        loader.export(frame, None, 'cased', case_sensitive=True)
        loader.export(frame, None, 'exact', auto_clean_name=False)
        found += [names(table) for table in ('made', 'kept', 'cased', 'exact')]
        # A table that was made with the word itself goes on under it; one that has both takes Mage's.
        for columns in ('"date" int, "us_" int', '"date" int, "_date" int, "us" int'):
            loader.execute('DROP TABLE IF EXISTS there')
            loader.execute(f'CREATE TABLE there ({columns})')
            loader.commit()
            loader.export(frame[['Date', 'US$']], None, 'there', if_exists='append')
            row = loader.load('SELECT * FROM there').iloc[0].dropna().to_dict()
            found.append({name: int(value) for name, value in row.items()})
        loader.export(pd.DataFrame({'Key': [1], 'date': [1]}), None, 'up', unique_constraints=['Key'])
        loader.export(pd.DataFrame({'Key': [1], 'date': [2]}), None, 'up', if_exists='append', unique_constraints=['Key'],
                      unique_conflict_method='UPDATE')
        found.append(loader.load('SELECT _key, _date FROM up').astype(object).values.tolist())
        try:
            loader.export(pd.DataFrame([[1, 2]], columns=['A-x', 'a x']), None, 'twice')
        except ValueError as error:
            found.append("'a_x'" in str(error))
""")
        made = ["_date", "_user_id", "letter", "letter_1_st", "us", "ünit_x"]
        self.assertEqual(self.stored("io"), [
            made, ["_user_id", "date", *made[2:]], sorted(["_Date", "_User_Id", "letter", "letter_1_st", "US", "Ünit_x"]),
            sorted(["Date", "US$", " User Id", "1.st", "letter", "Ünit-x"]), {"date": 1, "us_": 2}, {"_date": 1, "us": 2},
            [[1, 2]], True])

    def test_the_output_of_raw_statements_is_the_table_that_they_write(self) -> None:
        self.sql("w", "CREATE TABLE IF NOT EXISTS wrote (n int);\n-- more\nWITH s AS (SELECT 1 AS n) INSERT INTO wrote\n"
                      "SELECT r.id FROM (SELECT 5 AS id UNION ALL SELECT 6) r;", use_raw_sql=True)
        self.ok("w")
        self.assertEqual(sorted(self.rows("w")), [[5], [6]])
        # Who reads it in SQL reads the table, and not the first rows that are stored of it.
        self.sql("more", "INSERT INTO wrote SELECT 7", use_raw_sql=True)
        self.ok("more")
        self.sql("r", "SELECT count(*) AS n FROM {{ df_1 }}", ("w",), use_raw_sql=True)
        self.ok("r")
        self.assertEqual(self.rows("r"), [[3]])
        self.sql("t", "INSERT INTO {{ variables('where') }} SELECT 8", use_raw_sql=True)
        self.ok("t", variables={"where": "wrote"})
        self.assertEqual(len(self.rows("t")), 4)
        self.sql("no", "SELECT 1 FROM {{ df_1 }}", ("t",), use_raw_sql=True)
        self.fails("no", "USER_CODE", "block t", "template")
        self.sql("back", "WITH s AS (SELECT 9 AS n)\nINSERT INTO wrote SELECT n FROM s\nRETURNING n", use_raw_sql=True)
        self.ok("back")
        self.assertEqual(self.rows("back"), [[9]])
        self.sql("asked", "CREATE TEMP TABLE work AS SELECT 4 AS n; SELECT n FROM work; DROP TABLE work", use_raw_sql=True)
        self.ok("asked")
        self.assertEqual(self.rows("asked"), [[4]])
        self.sql("after", "SELECT n + 1 AS n FROM {{ df_1 }}", ("asked",), use_raw_sql=True)
        self.ok("after")
        self.assertEqual(self.rows("after"), [[5]])
        self.sql("said", "SELECT 'now insert into wrote' AS n", use_raw_sql=True)
        self.ok("said")
        self.assertEqual(self.rows("said"), [["now insert into wrote"]])
        self.sql("gone", "UPDATE wrote SET n = 1 WHERE n = 8; DROP TABLE wrote", use_raw_sql=True)
        self.assertEqual(self.ok("gone")["outputs"], [])

    def test_functions_in_templates(self) -> None:
        self.sql("p", """SELECT {{ variables('word', 'lambda v: len(v)') }} AS a, '{{ json_value(text, 'a.b[1].c') }}' AS b,
                 '{{ json_value(word, 'a') }}' AS c""", use_raw_sql=True)
        self.ok("p", variables={"word": "four", "text": '{"a": {"b": [0, {"c": "deep"}]}}'})
        self.assertEqual(self.rows("p"), [[4, "deep", "four"]])

    def test_dynamic_rows(self) -> None:
        self.sql("d", "SELECT id FROM {{ df_1 }} ORDER BY id", ("frame",), use_raw_sql=True)
        self.blocks["d"]["dynamic"] = True
        self.assertEqual(self.ok("d")["items"], 3)
        self.sql("c", "SELECT id * 2 AS two FROM {{ df_1 }}", ("d",), use_raw_sql=True)
        self.ok("c", inputs=[{"block": "d", "mode": "item", "item": 2, "dirs": [self.dir_of("d")]}])
        self.assertEqual(self.rows("c"), [[6]])


class OnDuckDB(Behaviour, ProjectCase):
    provider, loader = "duckdb", "DuckDB"

    def profile(self, name: str) -> None:
        self.file("io_config.yaml", json.dumps({"version": "0.1.1", name: {
            "DUCKDB_DATABASE": os.path.join(self.root, "data.db"), "DUCKDB_SCHEMA": "main"}}))

    def test_without_a_file(self) -> None:
        os.unlink(os.path.join(self.repo, "io_config.yaml"))
        self.sql("m", "SELECT count(*) AS n FROM {{ df_1 }}", ("frame",))
        self.ok("m")
        self.assertEqual(self.rows("m"), [[3]])

    def test_other_providers_and_profiles(self) -> None:
        self.sql("o", "SELECT 1")
        for provider in ("bigquery", "MySQL", "snowflake", "mine", ""):
            self.blocks["o"]["configuration"]["data_provider"] = provider
            failed = self.fails("o", "USER_CODE", "block o: ", provider.lower(), "duckdb and postgres")
            self.assertEqual(failed["traceback"], "")
        self.blocks["o"]["configuration"].update(data_provider="duckdb", data_provider_profile="gone")
        self.fails("o", "USER_CODE", "gone", "default")

    def test_interface(self) -> None:
        self.block("io", """
import os
from mage_ai.settings.repo import get_repo_path
from mage_ai.io.config import ConfigFileLoader, ConfigKey
from mage_ai.io.duckdb import DuckDB
import pandas as pd
@data_loader
def f(**kwargs):
    config = ConfigFileLoader(os.path.join(get_repo_path(), 'io_config.yaml'), 'default')
    assert config[ConfigKey.DUCKDB_SCHEMA] == 'main' == config['DUCKDB_SCHEMA']
    df = pd.DataFrame({'Some Col': ['a', 'b'], '1st': [1, 2]})
    with DuckDB.with_config(config) as loader:
        loader.export(df, None, table_name='t', index=False, if_exists='replace')
        loader.export(df, 'main', 't', if_exists='append')
        loader.execute("DELETE FROM t WHERE letter_1st = 1")
        loader.commit()
    # As in Mage it needs no `with`, and names are the same in capitals.
    loader = DuckDB.with_config(config)
    loader.export(df.head(0), 'main', 'T', if_exists='append')
    return loader.load('SELECT * FROM t;')
""")
        self.ok("io")
        self.assertEqual(self.stored("io")[0].to_dict("list"), {"some_col": ["b", "b"], "letter_1st": [2, 2]})


@unittest.skipIf(find_binaries() is None, "NO POSTGRESQL SERVER BINARIES: SQL on PostgreSQL is not tested here")
class OnPostgres(Behaviour, ProjectCase):
    provider, loader = "postgres", "Postgres"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.postgres = PrivatePostgres(find_binaries() or "")
        cls.addClassCleanup(cls.postgres.close)

    def setUp(self) -> None:
        import psycopg

        with psycopg.connect(host="127.0.0.1", port=self.postgres.port, user="orrery", dbname="postgres") as connection:
            connection.execute("DROP SCHEMA IF EXISTS other CASCADE")
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        super().setUp()

    def profile(self, name: str) -> None:
        self.file("io_config.yaml", json.dumps({"version": "0.1.1", name: {
            **self.postgres.profile, "POSTGRES_PORT": "{{ env_var('NOWHERE', " + str(self.postgres.port) + ") }}"}}))

    def test_a_failed_block_leaves_nothing(self) -> None:
        self.sql("half", "CREATE TABLE half (a int); SELECT 1/0", use_raw_sql=True)
        self.fails("half", "USER_CODE", "division by zero")
        self.sql("see", "SELECT count(*) AS n FROM information_schema.tables WHERE table_name = 'half'", use_raw_sql=True)
        self.ok("see")
        self.assertEqual(self.rows("see"), [[0]])

    def test_interface(self) -> None:
        self.block("io", """
from mage_ai.io.config import ConfigFileLoader
from mage_ai.io.postgres import Postgres
import pandas as pd, datetime
@data_loader
def f(*args, **kwargs):
    df = pd.DataFrame({'key': [1, 2], 'v': ['a', None], 'j': [{'x': [1]}, None], 't': pd.to_timedelta([1, 2], 's'),
                       'b': [b'\\x00', None], 'm': ['tab\\t', 'new\\nline']})
    with Postgres.with_config(ConfigFileLoader()) as loader:
        loader.export(df, 'sales', 't', index=False, if_exists='replace', unique_constraints=['key'])
        again = pd.DataFrame({'key': [2, 3], 'v': ['new', 'c']})
        loader.export(again, 'sales', 't', if_exists='append', unique_constraints=['key'], unique_conflict_method='UPDATE')
        loader.export(again.assign(v='no'), 'sales', 't', if_exists='append', unique_constraints=['key'],
                      unique_conflict_method='IGNORE')
        rows = loader.load('SELECT _key, v, j, _m FROM sales.t WHERE _key > %(least)s ORDER BY _key', least=0)
        loader.execute('DELETE FROM sales.t')
        loader.rollback()
        assert len(loader.load('SELECT * FROM sales.t', limit=2)) == 2
        return rows
""")
        self.ok("io")
        frame = self.stored("io")[0]
        self.assertEqual(frame["v"].tolist(), ["a", "new", "c"])
        self.assertEqual(frame["j"].tolist()[0], {"x": [1]})
        self.assertEqual(frame["_m"].tolist()[:2], ["tab\t", "new\nline"])

    def test_names_are_in_small_letters_unless_they_are_quoted(self) -> None:
        self.with_loader("""
        frame = pd.DataFrame({'id': [1]})
        for schema, table in (('Other', 'Titanic'), ('other', '"Exact One"'), ('"other"', 'titanic')):
            loader.export(frame, schema, table, if_exists='append')
        loader.execute('CREATE TABLE other."Kept" (id int)')
        loader.export(frame, 'other', 'Kept', if_exists='append')
        found.append(len(loader.sample('Other', 'Titanic')))
        found += loader.load("SELECT table_name::text AS t FROM information_schema.tables WHERE table_schema = 'other' "
                             "ORDER BY 1")['t'].tolist()
        found.append(len(loader.load('SELECT * FROM other."Kept"')))
        # Mage's driver takes two of these signs for one even where there are no parameters.
        loader.execute("DELETE FROM other.titanic WHERE 5 %% 2 = 1 AND 'abc' LIKE 'a%%'")
        found.append(len(loader.load("SELECT * FROM other.titanic WHERE 'abc' LIKE 'a%'")))
""")
        self.assertEqual(self.stored("io"), [2, "Exact One", "Kept", "titanic", 1, 0])

    def test_lists_are_arrays_or_json_as_the_table_has_it(self) -> None:
        self.with_loader("""
        import numpy as np, decimal, datetime
        loader.execute("CREATE TABLE t (tags text[], days timestamp[], j json, b text)")
        loader.commit()
        frame = pd.DataFrame({'tags': [['x', 'y,"z'], None, []], 'days': [[datetime.datetime(2024, 5, 6)], None, None],
                              'j': [{'k': float('nan')}, [1], None], 'b': [[1, 2], None, None]})
        loader.export(frame, None, 't', if_exists='append')
        found.append(loader.load("SELECT tags, days[1]::date::text AS d, j->>'k' AS k, b FROM t").astype(object).values.tolist())
        new = pd.DataFrame({'i': [[1, 2], []], 's': [['x'], None], 'f': [[1.5], [2.0]], 'o': [[{'p': 1}], []],
                            'm': [np.array([1, 2]), None], 'n': [{'w': decimal.Decimal('1.5'), 't': pd.NaT}, None]})
        loader.export(new, None, 'u')
        found.append(loader.load("SELECT pg_typeof(i)::text AS a, pg_typeof(s)::text AS b, pg_typeof(f)::text AS c, "
                                 "pg_typeof(o)::text AS d, pg_typeof(_m)::text AS e, _m[1]::int + i[2]::int AS v, "
                                 "n::text AS w FROM u LIMIT 1").values.tolist()[0])
""")
        self.assertEqual(self.stored("io"), [
            [[["x", 'y,"z'], "2024-05-06", None, "[1, 2]"], [None, None, None, None], [[], None, None, None]],
            ["bigint[]", "text[]", "double precision[]", "jsonb", "jsonb", 4, '{"t": null, "w": 1.5}']])


if __name__ == "__main__":
    unittest.main()

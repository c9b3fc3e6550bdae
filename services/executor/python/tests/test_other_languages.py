"""Blocks in R, and dbt blocks: with the real programs where they are."""
from __future__ import annotations

import datetime
import decimal
import json
import os
import shutil
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support import ProjectCase, library

HAS_R = shutil.which("Rscript") is not None
FRAME = """
import pandas as pd
@data_loader
def f(*args, **kwargs):
    return pd.DataFrame({'id': [1, 2, 3], 'Name of': ['a, "b"', None, 'ü\\n'], 'x': [1.5, None, 3.5], 'ok': [True, False, True]})
"""


class R(ProjectCase):
    def run_r(self, uuid: str, code: str, kind: str = "transformer", upstream: tuple = ("frame",), **fields) -> dict:
        self.block(uuid, code, kind, "r", upstream)
        return self.ok(uuid, request={"env": dict(os.environ)}, **fields)

    def test_without_r_the_remedy_is_said(self) -> None:
        self.block("r", "transform <- function(df_1, ...) df_1\n", "transformer", "r")
        self.fails("r", "USER_CODE", "Rscript is not installed", request={"env": {"PATH": "/nonexistent"}})

    @unittest.skipUnless(HAS_R, "NO RSCRIPT: blocks in R are not tested here; install Debian's r-base-core")
    def test_a_frame_goes_through_r(self) -> None:
        self.block("frame", FRAME)
        self.ok("frame")
        self.run_r("r", "transform <- function(df_1, ...) { df_1$twice <- df_1$id * global_vars$by; df_1 }\n",
                   variables={"by": 2, "nested": {"list": [1, "a", None, True]}})
        frame = self.stored("r")[0]
        self.assertEqual(frame["twice"].tolist(), [2, 4, 6])
        self.assertEqual(frame["Name.of"].tolist()[::2], ['a, "b"', "ü\n"])
        self.assertTrue(frame["Name.of"].isna()[1] and frame["x"].isna()[1])
        self.assertEqual(frame["ok"].tolist(), [True, False, True])

    @unittest.skipUnless(HAS_R, "NO RSCRIPT: blocks in R are not tested here; install Debian's r-base-core")
    def test_variables_are_a_vector_of_texts(self) -> None:
        self.run_r("r", """load_data <- function() {
            df <- data.frame(n = 1:2)
            df['day'] <- format(as.Date(global_vars['ds']) + 1)
            df['parts'] <- strsplit(global_vars['names'], ',')[[1]]
            df['twice'] <- as.numeric(global_vars['by']) * global_vars$by
            df['flag'] <- global_vars[['flag']] == 'True' && global_vars$flag
            df['none'] <- is.na(global_vars['nothing'])
            df['map'] <- global_vars['map']
            df
        }""", "data_loader", (), variables={"names": "a,b", "by": 2, "flag": True, "map": {"k": "v"}})
        self.assertEqual(self.stored("r")[0].values.tolist(), [
            [1, "2024-03-01", "a", 4, True, True, '{"k": "v"}'], [2, "2024-03-01", "b", 4, True, True, '{"k": "v"}']])

    @unittest.skipUnless(HAS_R, "NO RSCRIPT: blocks in R are not tested here; install Debian's r-base-core")
    def test_variables_can_be_written_to(self) -> None:
        self.run_r("r", """
        global_vars[['by']] <- 3
        global_vars['new'] <- 'n'
        global_vars[c('a', 'b')] <- c(1, 2)
        load_data <- function() {
            before <- global_vars[['flag']]
            global_vars$flag <- FALSE
            global_vars[['none']] <- NULL
            data.frame(
                by = global_vars['by'], by_itself = global_vars$by + 1, new = global_vars[['new']], b = global_vars$b,
                before = before, flag = global_vars['flag'], flag_itself = global_vars$flag, ds = global_vars['ds'],
                count = length(grep('^(by|flag|none|new|a|b)$', names(global_vars))))
        }""", "data_loader", (), variables={"by": 2, "flag": True, "none": None})
        self.assertEqual(self.stored("r")[0].values.tolist(), [[3, 4, "n", 2, True, False, False, "2024-02-29", 6]])

    @unittest.skipUnless(HAS_R, "NO RSCRIPT: blocks in R are not tested here; install Debian's r-base-core")
    def test_every_kind_of_r_block(self) -> None:
        self.run_r("loader", "load_data <- function() { cat('loading\\n'); data.frame(n = 1:3, s = c('a', NA, 'c')) }\n",
                   "data_loader", ())
        self.assertEqual(self.stored("loader")[0]["n"].tolist(), [1, 2, 3])
        self.assertIn("loading", self.last.text())
        self.block("frame", FRAME)
        self.ok("frame")
        self.run_r("both", "transform <- function(df_1, df_2, ...) merge(df_1, df_2, by.x = 'id', by.y = 'n')\n",
                   upstream=("frame", "loader"))
        self.assertEqual(self.stored("both")[0]["s"].tolist()[::2], ["a", "c"])
        exported = os.path.join(self.root, "exported.csv")
        result = self.run_r("exporter", f"export_data <- function(df_1, ...) write.csv(df_1, '{exported}')\n",
                            "data_exporter")
        self.assertEqual(result["outputs"], [])
        self.assertTrue(os.path.getsize(exported))

    @unittest.skipUnless(HAS_R, "NO RSCRIPT: blocks in R are not tested here; install Debian's r-base-core")
    def test_what_r_says_is_in_the_log(self) -> None:
        self.block("bad", "load_data <- function() stop('no such table')\n", "data_loader", "r")
        self.fails("bad", "USER_CODE", "Rscript ended with code 1; Error in load_data() : no such table",
                   request={"env": dict(os.environ)})
        self.assertIn("no such table", self.last.text("stderr"))
        self.block("other", "load <- function() 1\n", "data_loader", "r")
        self.fails("other", "USER_CODE", "code 1; Error: the file defines no", request={"env": dict(os.environ)})
        self.assertIn("the file defines no function load_data", self.last.text("stderr"))
        self.block("quits", "load_data <- function() quit(save = 'no', status = 3)\n", "data_loader", "r")
        self.fails("quits", "USER_CODE", "code 3; its log says why", request={"env": dict(os.environ)})
        # R has a function of that name, which gives back what it is given.
        self.block("frame", FRAME)
        self.ok("frame")
        self.block("same", "change <- function(df_1, ...) 1\n", "transformer", "r", ("frame",))
        self.fails("same", "USER_CODE", "code 1", request={"env": dict(os.environ)})
        self.assertIn("the file defines no function transform", self.last.text("stderr"))


class Dbt(ProjectCase):
    def test_the_command_line(self) -> None:
        self.block("models/m", "select 1", "dbt", "sql")
        self.fails("models/m", "USER_CODE", "dbt is not installed", request={"env": {"PATH": "/nonexistent"}})
        self.file("bin/dbt", "#!/bin/sh\necho \"$@\"\nexit $CODE\n")
        os.chmod(os.path.join(self.repo, "bin/dbt"), 0o755)
        self.file("dbt/dbt_project.yml", "name: x\n")
        path = os.path.join(self.repo, "bin") + ":/bin:/usr/bin"
        self.ok("models/m", request={"env": {"PATH": path, "CODE": "0"}})
        self.assertIn("build --select m --vars", self.last.text())
        self.assertIn(f"--project-dir {self.repo}/dbt", self.last.text())
        self.fails("models/m", "USER_CODE", "code 2", request={"env": {"PATH": path, "CODE": "2"}})
        for uuid, command in (("models/a", "run"), ("snapshots/b", "snapshot")):
            self.block(uuid, "select 1", "dbt", "sql", configuration={"dbt": {"disable_tests": True}})
            self.ok(uuid, request={"env": {"PATH": path, "CODE": "0"}})
            self.assertIn(f"{command} --select {uuid[-1]} --vars", self.last.text())

    def test_which_project(self) -> None:
        self.file("bin/dbt", "#!/bin/sh\necho \"$@\"\n")
        os.chmod(os.path.join(self.repo, "bin/dbt"), 0o755)
        for folder in ("dbt/a", "dbt/b", "dbt/c/d"):
            self.file(f"{folder}/dbt_project.yml", "name: x\n")
        request = {"env": {"PATH": os.path.join(self.repo, "bin") + ":/bin:/usr/bin"}}
        for configuration, folder in (
                ({}, "dbt/a"), ({"dbt_project_name": "b"}, "dbt/b"), ({"dbt_project_name": "dbt/b"}, "dbt/b"),
                ({"dbt_project_name": "b", "dbt_profiles_file_path": "dbt/c/d/profiles.yml"}, "dbt/c/d")):
            self.block("m", "--select x\n", "dbt", "yaml", file="dbt/a/m.yaml", configuration=configuration)
            self.file("dbt/a/m.yaml", "--select x\n")
            self.ok("m", request=request)
            self.assertIn(f"--project-dir {self.repo}/{folder}\n", self.last.text())

    def test_packages_profiles_and_outputs(self) -> None:
        self.file("bin/dbt", "#!/bin/sh\necho \"$@\"\n"
                             "[ \"$1\" = deps ] && mkdir dbt_packages && ! [ -e tried ] && touch tried && exit 1\n"
                             "while [ $# -gt 1 ]; do [ \"$1\" = --profiles-dir ] && cat \"$2/profiles.yml\"; shift; done\n")
        os.chmod(os.path.join(self.repo, "bin/dbt"), 0o755)
        self.file("dbt/dbt_project.yml", "name: x\n")
        self.file("dbt/packages.yml", "packages: []\n")
        self.file("dbt/profiles.yml", "x: {password: \"{{ mage_secret_var('pw') }}\", schema: \"{{ variables('schema') }}\"}\n")
        self.block("up", "@data_loader\ndef f(): return 'orders'\n")
        self.ok("up")
        self.block("m", "--select {{ block_output('up') }} --full-refresh\n", "dbt", "yaml", upstream=["up"])
        request = {"env": {"PATH": os.path.join(self.repo, "bin") + ":/bin:/usr/bin", "ORRERY_SECRET_pw": "s3cret"}}
        # The first time they cannot be had.
        for has_packages in (False, False, True):
            self.ok("m", request=request, variables={"schema": "own"})
            lines = self.last.text().splitlines()
            self.assertEqual([line for line in lines if line.startswith("deps ")] == [], has_packages)
            self.assertTrue(any(line.startswith("run --select orders --full-refresh --vars") for line in lines), lines)
            self.assertIn("x: {password: \"s3cret\", schema: \"own\"}", lines)
        with open(os.path.join(self.repo, "dbt", "profiles.yml"), encoding="utf-8") as file:
            self.assertIn("mage_secret_var", file.read())
        for uuid, given in (("json", '\'{"mine": 1, "schema": "other"}\''), ("yaml", "'mine: 1'")):
            self.block(uuid, f"--select a --vars {given}\n", "dbt", "yaml")
            self.ok(uuid, request=request, variables={"schema": "own", "further": 2})
            line = next(line for line in self.last.text().splitlines() if line.startswith("run --select a --vars "))
            if uuid == "json":
                self.assertIn('"further": 2', line)
                self.assertIn('"schema": "other"', line)
                self.assertNotIn('"own"', line)
            self.assertIn("mine", line)

    def test_rows_for_the_next_blocks(self) -> None:
        self.file("bin/dbt", "#!/bin/sh\necho \"$@\"\n")
        os.chmod(os.path.join(self.repo, "bin/dbt"), 0o755)
        self.file("dbt/shop/dbt_project.yml", "name: shop\n")
        # In dbt's own folder, what a project of dbt may hold too.
        self.file("dbt/shop/pickle/__init__.py", "raise ImportError('not this one')\n")
        shown = self.file("lib/dbt/cli/main.py", """
import datetime, decimal, types
class dbtRunner:
    def invoke(self, command):
        print("invoked", *command)
        if "fails" in command:
            return types.SimpleNamespace(success=False, exception="no such table", result=None)
        def node(name, rows):
            table = types.SimpleNamespace(column_names=("id", "price", "day"), rows=[dict(zip("abc", row)) for row in rows])
            return types.SimpleNamespace(node=types.SimpleNamespace(name=name), agate_table=table)
        row = (7, decimal.Decimal("1.50"), datetime.date(2024, 1, 2))
        results = [node("other", []), node("orders", [row, (8, None, None)]), node("none", [])]
        return types.SimpleNamespace(success=True, result=types.SimpleNamespace(results=results))
""")
        self.file("lib/dbt/__init__.py", "")
        self.file("lib/dbt/cli/__init__.py", "")
        request = {"env": {"PATH": os.path.join(self.repo, "bin") + ":/bin:/usr/bin",
                           "PYTHONPATH": os.path.join(self.repo, "lib")}}
        for model in ("orders", "none", "fails"):
            self.block(model, None, "dbt", "sql", file=f"dbt/shop/models/{model}.sql")
            self.file(f"dbt/shop/models/{model}.sql", "select 1\n")
        # Nobody reads them.
        self.block("test", None, "dbt", "yaml", upstream=["orders"])
        self.assertEqual(self.ok("orders", request=request)["outputs"], [])
        self.assertNotIn("invoked", self.last.text())
        self.block("use", "@transformer\ndef f(a, b): return [a.values.tolist(), list(b.columns), len(b)]\n", "transformer",
                   upstream=["orders", "none"])
        settings = {"prefix": "+", "suffix": "+1", "flags": ["--full-refresh"]}
        variables = {"__mage_variables": {"blocks": {"orders": {"configuration": settings}}}}
        self.assertEqual(self.ok("orders", request=request, variables=variables)["outputs"][0]["rows"], 2)
        self.assertIn("build --full-refresh --select +orders+1 --vars", self.last.text())
        self.assertIn("invoked show --select orders --limit -1 ", self.last.text())
        self.assertIn(" --full-refresh", self.last.text().split("invoked")[1])
        self.ok("none", request=request)
        self.ok("use")
        self.assertEqual(self.stored("use"), [
            [[7, decimal.Decimal("1.50"), datetime.date(2024, 1, 2)], [8, None, None]], ["id", "price", "day"], 0])
        self.blocks["use"]["upstream"].append("fails")
        self.fails("fails", "USER_CODE", "dbt show", "code 1", request=request)
        self.assertIn("no such table", self.last.text("stderr"))
        os.unlink(shown)
        self.fails("fails", "USER_CODE", "dbt-core 1.5 or newer", request=request)

    def test_frames_as_sources(self) -> None:
        self.file("bin/dbt", "#!/bin/sh\necho \"$@\"\n[ \"$1\" = seed ] && cat data/mage_sales/$3.csv && exit $CODE\nexit 0\n")
        os.chmod(os.path.join(self.repo, "bin/dbt"), 0o755)
        self.file("dbt/shop/dbt_project.yml", "name: shop\nseed-paths: [data]\n")
        for uuid, returned in (("listed", "[{'id': 1, 't': 'a'}, {'id': 2, 't': 'b'}]"), ("one", "{'id': 3}"), ("other", "1"),
                               ("empty", "None")):
            self.block(uuid, f"@data_loader\ndef f(): return {returned}\n")
            self.ok(uuid)
        self.file("dbt/shop/models/m.sql", "".join(f"select * from {{{{ source('mage_shop', 'sales_{uuid}') }}}}\n" for uuid in (
            "listed", "one", "empty")) + "select * from {{ source('raw', 'sales_other') }}\n")
        self.block("m", None, "dbt", "sql", upstream=["listed", "one", "other", "empty"], file="dbt/shop/models/m.sql")
        env = {"PATH": os.path.join(self.repo, "bin") + ":/bin:/usr/bin", "CODE": "0"}
        self.ok("m", request={"env": env})
        lines = [line for line in self.last.text().splitlines() if not line.startswith(("seed", "build"))]
        self.assertEqual(lines, ['"id","t"', '1,"a"', '2,"b"', '"id"', "3"])
        seeds = [line.split(" --vars ")[0] for line in self.last.text().splitlines() if line.startswith("seed")]
        self.assertEqual(seeds, [f"seed --select mage_sales_{uuid} --full-refresh --project-dir {self.repo}/dbt/shop"
                                 for uuid in ("listed", "one")])
        self.assertTrue(any("empty gave no rows" in entry["message"] for entry in self.last.logs))
        self.fails("m", "USER_CODE", "dbt seed of mage_sales_listed", "code 4", request={"env": {**env, "CODE": "4"}})

    def test_variables_that_dbt_is_told(self) -> None:
        self.file("bin/dbt", "#!/bin/sh\nfor given in \"$@\"; do echo \"$given\"; done\n")
        os.chmod(os.path.join(self.repo, "bin/dbt"), 0o755)
        self.file("dbt/dbt_project.yml", "name: x\n")
        self.block("m", "select 1", "dbt", "sql")
        request = {"env": {"PATH": os.path.join(self.repo, "bin") + ":/bin:/usr/bin"}}
        given = {"map": {"a": [1, None]}, "list": ["x"], "nothing": None, "interval_start_datetime": "2024-01-02T03:04:05Z"}
        for long in ("", "y" * 150_000):
            self.ok("m", request=request, variables={**given, "further": [long]})
            told = json.loads(next(line for line in self.last.text().splitlines() if line.startswith("{")))
            self.assertEqual((told.get("map"), told.get("list")), (None, None) if long else ({"a": [1, None]}, ["x"]))
            self.assertEqual(told["interval_start_datetime"], "2024-01-02T03:04:05+00:00")
            self.assertTrue({"nothing", "context", "logger"}.isdisjoint(told))
            self.assertEqual((told["env"], told["ds"]), ("prod", "2024-02-29"))

    def test_real_models(self) -> None:
        library(self, "dbt.adapters.duckdb")
        env = {**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
               "DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
        warehouse = os.path.join(self.root, "warehouse.duckdb")
        self.file("dbt/shop/dbt_project.yml",
                  "name: shop\nversion: '1.0'\nprofile: shop\nmodel-paths: [models]\nmodels:\n  +materialized: table\n")
        self.file("dbt/shop/profiles.yml", "shop:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n"
                                           f"      path: {warehouse}\n    other:\n      type: duckdb\n      path: ':memory:'\n")
        self.file("dbt/shop/models/orders.sql", "select 7 as id, {{ var('amount') }} as amount\n")
        self.file("dbt/shop/models/totals.sql", "select sum(amount) as total from {{ ref('orders') }}\n")
        for model in ("orders", "totals"):
            self.block(f"shop/models/{model}", None, "dbt", "sql", file=f"dbt/shop/models/{model}.sql")
            self.ok(f"shop/models/{model}", request={"env": env}, variables={"amount": 35})
        import duckdb

        with duckdb.connect(warehouse) as connection:
            self.assertEqual(connection.execute("SELECT total FROM totals").fetchall(), [(35,)])
        self.file("dbt/shop/models/mage_sources.yml", "version: 2\nsources:\n- name: mage_shop\n  schema: main\n  tables:\n"
                                                      "  - {name: sales_made, identifier: mage_sales_made}\n")
        self.file("dbt/shop/models/joined.sql",
                  "select o.*, m.n, 1.5::decimal(5, 2) as price, date '2024-01-02' as day, null::int as nothing, '007' as zip\n"
                  "from {{ ref('orders') }} o, {{ source('mage_shop', 'sales_made') }} m\n")
        self.block("made", "import pandas as pd\n@data_loader\ndef f(): return pd.DataFrame({'n': [1, 2]})\n")
        self.ok("made")
        self.block("joined", None, "dbt", "sql", upstream=["made"], file="dbt/shop/models/joined.sql")
        self.block("use", "@transformer\ndef f(df): return df.sort_values('n').values.tolist()\n", "transformer",
                   upstream=["joined"])
        self.ok("joined", request={"env": env}, variables={"amount": 35})
        self.ok("use")
        self.assertEqual(self.stored("use"), [[7, 35, n, decimal.Decimal("1.50"), datetime.date(2024, 1, 2), None, "007"]
                                              for n in (1, 2)])
        self.block("build", "build --select orders", "dbt", "yaml", file="dbt/build.yaml",
                   configuration={"dbt": {"command": "build"}, "dbt_project_name": "shop", "dbt_profile_target": "other"})
        self.file("dbt/build.yaml", "--select orders\n")
        self.ok("build", request={"env": env}, variables={"amount": 1})
        self.file("dbt/shop/models/totals.sql", "select nothing from nowhere\n")
        self.fails("shop/models/totals", "USER_CODE", "dbt build ended with code 1", request={"env": env},
                   variables={"amount": 35})
        self.assertIn("nowhere", self.last.text())


if __name__ == "__main__":
    unittest.main()

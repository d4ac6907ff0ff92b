"""python3 -m unittest test_history.py, in this folder: needs nothing but Python."""

import json
import math
import sys
import unittest
from collections import namedtuple

sys.path.insert(0, "app")
import history  # noqa: E402

Relation = namedtuple("Relation", "id schema table columns")
Column = namedtuple("Column", "name")
Mutation = namedtuple("Mutation", "id relation change transaction timestamp_us")
Replacement = namedtuple("Replacement", "before after")
Value_Null = namedtuple("Value_Null", "")
Value_Integer = namedtuple("Value_Integer", "value")
Value_Float = namedtuple("Value_Float", "value")
Value_Text = namedtuple("Value_Text", "value")
Value_Bytes = namedtuple("Value_Bytes", "value")
Change_Update = namedtuple("Change_Update", "value")
Change_Truncate = namedtuple("Change_Truncate", "")

PERSON = Relation(7, "public", 'the "people"', [Column("id"), Column("name")])


class History(unittest.TestCase):
    def test_a_schema_may_be_chosen(self):
        self.assertEqual(history.settings("{}"), "history")
        self.assertEqual(history.settings('{"schema": "audit"}'), "audit")

    def test_mistakes_are_named(self):
        for configuration, named in [('{"schma": "a"}', "`schma`"), ('{"schema": 1}', "`schema`"), ("[]", "mapping"), ('{"schema": ""}', "1 to 63")]:
            with self.assertRaises(ValueError) as raised:
                history.settings(configuration)
            self.assertIn(named, str(raised.exception))

    def test_values_keep_what_json_cannot_say(self):
        values = [Value_Null(), Value_Integer(2**63 - 1), Value_Bytes(b"\x00\xff"), Value_Float(math.inf), Value_Float(math.nan)]
        self.assertEqual([history.plain(value) for value in values], [None, 2**63 - 1, "\\x00ff", "Infinity", "NaN"])

    def test_an_update_has_both_rows(self):
        change = Change_Update(Replacement([Value_Integer(1), Value_Text("ä")], [Value_Integer(2), Value_Null()]))
        record = history.Relations([PERSON]).record(Mutation(40, 7, change, 99, 5))
        self.assertEqual(record[:5], ('"public"."the ""people"""', "update", "40", "99", "5"))
        self.assertEqual(json.loads(record[5]), {"id": 1, "name": "ä"})
        self.assertEqual(json.loads(record[6]), {"id": 2, "name": None})

    def test_a_truncation_has_none(self):
        record = history.Relations([PERSON]).record(Mutation(41, 7, Change_Truncate(), 99, 5))
        self.assertEqual((record[1], record[5], record[6]), ("truncate", None, None))

    def test_columns_stand_beside_each_other(self):
        self.assertEqual(history.columns(("c", "s"), [(1, 2), (3, 4)]), [["c", "c"], ["s", "s"], [1, 3], [2, 4]])
        self.assertEqual(len(history.COLUMNS), 7)


if __name__ == "__main__":
    unittest.main()

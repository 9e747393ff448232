"""A string in a JSON body that never ends is read again from each quote in it, as it once was."""

import re

SCENARIO = "tests/chaos/test_f16_time.py::test_each_reader_of_documents_takes_time_in_proportion[from_json]"


def plant() -> None:
    from search_spaces import documents

    documents._STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

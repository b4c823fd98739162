"""Checks structured answers against their schemas, with a validator that others wrote.

Input:  the file that `cargo bench -p wootz-engine --bench masks -- DOCUMENTS.jsonl` writes.
Needs:  jsonschema (4.26), rfc3339-validator for `date-time`.
"""

import json
import sys

import jsonschema


def main(path):
    n_finished = n_cut = n_invalid = 0
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        if row["finish_reason"] != "stop":
            n_cut += 1
            continue
        n_finished += 1
        validator = jsonschema.Draft202012Validator(
            row["schema"], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )
        try:
            validator.validate(json.loads(row["text"]))
        except (ValueError, jsonschema.ValidationError) as error:
            n_invalid += 1
            print("invalid:", row["text"], "|", str(error).splitlines()[0])
    print(f"{n_finished} finished, {n_invalid} of them invalid; {n_cut} cut off")
    return n_invalid > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

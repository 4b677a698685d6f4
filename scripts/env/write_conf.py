#!/usr/bin/env python3
"""Write conf/schema.json and the tables of conf/README.md from the options of the library: [--check]

With --check nothing is written; exit code 1 says that a file is not what would be written.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import Any, get_args, get_origin

from scrollpast.config import Config, Section

ROOT = Path(__file__).resolve().parents[2]
SCHEMA, README = ROOT / "conf" / "schema.json", ROOT / "conf" / "README.md"
MARK = "<!-- written by scripts/env/write_conf.py -->\n"
_NOT_SHOWN = "…"


def main() -> int:
    is_check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not is_check:
        print(f"write_conf.py: error: {sys.argv[1]}: expected no argument or --check", file=sys.stderr)
        return 2
    head = README.read_text(encoding="utf-8").partition(MARK)[0]
    wanted = {
        SCHEMA: json.dumps(schema(), indent=1, ensure_ascii=False) + "\n",
        README: head + MARK + tables(),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if is_check:
            print(
                f"{path.relative_to(ROOT)}: not what the options say; run scripts/env/write_conf.py",
                file=sys.stderr,
            )
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if is_check and stale else 0


def schema() -> dict[str, Any]:
    """JSON Schema of a configuration, with the text of every option: editors complete and check YAML files by it."""
    found = Config.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "scrollpast configuration"
    models = {model.__name__: model for model in sections(Config)}
    for name, definition in (*found["$defs"].items(), ("Config", found)):
        texts = texts_of(models[name])
        for option, about in definition.get("properties", {}).items():
            about.pop("title", None)
            if option in texts:
                about["description"] = texts[option]
    # A section without options is null in YAML.
    for about in found["properties"].values():
        if "$ref" in about:
            about["anyOf"] = [{"$ref": about.pop("$ref")}, {"type": "null"}]
    return found


def tables() -> str:
    """One table a section of options: name, default, text."""
    lines = []
    for name, field in Config.model_fields.items():
        lines += ["", f"## {name}", "", "| option | default | effect |", "| --- | --- | --- |"]
        lines += rows(field.annotation, field.get_default(call_default_factory=True), "")
    return "\n".join(lines) + "\n"


def rows(model: Any, defaults: Any, prefix: str) -> list[str]:
    found, texts = [], texts_of(model)
    for option, field in model.model_fields.items():
        default = getattr(defaults, option)
        if inspect.isclass(field.annotation) and issubclass(field.annotation, Section):
            found += rows(field.annotation, default, f"{prefix}{option}.")
            continue
        dumped = defaults.model_dump(mode="json")[option]
        shown = json.dumps(dumped, ensure_ascii=False)
        shown = shown if len(shown) <= 40 else _NOT_SHOWN
        text = texts.get(option, "").replace("|", "\\|")
        found.append(f"| `{prefix}{option}` | `{shown}` | {text} |")
    return found


def sections(model: type[Section]) -> list[type[Section]]:
    """A section and all sections in it, those of lists and maps too."""
    found, waiting = [model], [field.annotation for field in model.model_fields.values()]
    while waiting:
        kind = waiting.pop()
        if inspect.isclass(kind) and get_origin(kind) is None:
            if issubclass(kind, Section) and kind not in found:
                found.append(kind)
                waiting += [field.annotation for field in kind.model_fields.values()]
        else:
            waiting += get_args(kind)
    return found


def texts_of(model: type[Section]) -> dict[str, str]:
    """Docstrings below the options of a section, those that it inherits too, each in one line."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if not (issubclass(part, Section) and part is not Section):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(definition, ast.ClassDef)
        for option, text in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(option, ast.AnnAssign) and isinstance(text, ast.Expr):
                assert isinstance(option.target, ast.Name) and isinstance(text.value, ast.Constant)
                found[option.target.id] = " ".join(str(text.value.value).split())
    return found


if __name__ == "__main__":
    sys.exit(main())

"""Prints constraints for pip: each requirement of the product and its extras at the lower bound that it claims.

What those require in turn is left to pip, since the pins of constraints.txt belong to newer versions.
"""

import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def main() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    lines = chain(project["dependencies"], *(extras[name] for name in extras if name != "dev"))
    for requirement in map(Requirement, lines):
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                print(f"{requirement.name}=={specifier.version}")


if __name__ == "__main__":
    main()

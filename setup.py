"""What pyproject.toml cannot say: the package's page, made from README.md, and the links to the project.

The project's address is `address` under `[tool.icm-bench]` in pyproject.toml, and stands nowhere else. Relative links
lead nowhere on a package's page: they become links to this version at the address, or plain text while it is empty.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = PROJECT["tool"]["icm-bench"]["address"].rstrip("/")  # such as https://github.com/OWNER/icm-bench
TAG = f"v{PROJECT['project']['version']}"


def package_page(text: str, address: str = ADDRESS) -> str:
    """Return Markdown whose relative links lead to files at `address`; without an address, links lose their targets."""

    def linked(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        if re.match(r"[a-z]+:", target):
            return match[0]
        if not address:
            return "" if image else words
        place = f"{address}/{'raw' if image else 'blob'}/{TAG}/{target}"
        return f"{image}[{words}]({place})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", linked, text)


def project_links(address: str = ADDRESS) -> dict[str, str]:
    """Return the links of the package's page by name; none without an address."""
    pages = {"Source": "", "Issues": "/issues", "Changes": f"/blob/{TAG}/CHANGELOG.md"}
    return {name: address + path for name, path in pages.items()} if address else {}


if __name__ == "__main__":
    from setuptools import setup

    setup(
        long_description=package_page((ROOT / "README.md").read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
        project_urls=project_links(),
    )

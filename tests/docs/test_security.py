"""Each paragraph of SECURITY.md has the tests that hold it to its word."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
# How a paragraph or an entry of a list begins -> tests, or what no test can show. A heading stands for all below it.
SHOWN = {
    "After reading this page": [],  # it says what the page is for
    "A recipe or a store may name": ["common/test_plugins.py::test_a_class_beside_the_recipe_is_found"],
    "Commands that compute": [
        "common/test_plugins.py::test_every_command_that_takes_a_recipe_says_whether_it_imports_classes",
        "common/test_plugins.py::test_a_class_in_such_a_folder_is_found_by_workers_and_nothing_that_hides_a_package_is_run",
    ],
    "`plan`, `report`, `choose`": [
        "common/test_plugins.py::test_commands_that_only_read_import_it_when_asked_alone",
        "reports/test_hostile.py::test_rows_that_name_code_import_none_where_nobody_wants_it",
        "reports/tables/test_own.py::test_a_right_one_comes_last_and_code_of_others_can_be_refused",
    ],
    "`--no-plugins`, or": [
        "common/test_plugins.py::test_no_plugins_refuses_it_in_every_command_and_imports_nothing",
        "common/test_plugins.py::test_a_job_is_told_too",
    ],
    "If a recipe names your own classes": [
        "common/test_plugins.py::test_workers_of_ray_look_last_into_the_folders_of_a_class",
        "common/test_plugins.py::test_a_run_and_its_report_run_nothing_of_a_folder",
        "common/test_cluster.py::test_folders_of_code_of_the_users_own_come_last_and_only_where_it_is_asked_for",
    ],
    "A submitted job searches": [
        "commands/test_packing.py::test_what_is_named_goes_and_keeps_its_place",
        "jobs/test_submit.py::test_a_recipe_goes_with_its_files_alone_and_gives_the_tables_of_a_local_run",
    ],
    "Without such classes, `icm-bench` imports nothing": [
        "common/test_plugins.py::test_a_command_takes_nothing_of_the_folder_that_it_is_called_from_for_a_package",
        "common/test_plugins.py::test_processes_that_try_something_look_into_no_working_directory",
        "common/test_plugins.py::test_an_empty_folder_hides_none_of_our_packages",
    ],
    "All other input": [
        "test_unpickled.py::test_nothing_is_unpickled_and_no_code_beside_a_file_is_run",
        "commands/test_export.py::test_nothing_is_unpickled",
        "common/test_plain.py::test_bad_yaml_is_one_sentence_in_no_time",
    ],
    "**Ray on this machine**": [
        "common/test_private_ray.py::test_all_processes_of_a_local_ray_listen_on_the_loopback_and_ask_for_a_token",
        "common/test_private_ray.py::test_the_file_of_the_token_is_its_owners_alone",
    ],
    "**A cluster** needs": ["jobs/test_submit.py::test_a_driver_without_the_token_is_refused_in_a_sentence_within_seconds"],
    "A page of a report": ["reports/page/test_build.py::test_only_the_page_s_own_code_and_style_may_run"],
    "**Files** go to": ["common/test_places.py::test_a_closed_store_cache_and_folder_of_ray"],
    "Images are never copied": ["reports/page/test_build.py::test_thumbnails_stand_in_it_only_where_they_are_given"],
    "Only you can read [copies](docs/data.md#s3)": [
        "common/test_kept.py::test_copies_are_private_and_gone_with_the_command",
        "common/test_kept.py::test_a_variable_limits_copies",
        "common/test_kept.py::test_what_a_killed_command_left_is_removed_and_what_another_one_uses_is_not",
    ],
    "Nothing is sent about you": [
        "common/test_cluster.py::test_ray_reports_nothing_to_its_maker",
        "backbones/test_hub.py::test_what_was_fetched_before_needs_no_hub",
    ],
    "weights and tokenizers": ["backbones/test_hub.py::test_every_family_runs_with_random_weights_or_names_what_must_be_fetched"],
    "embeddings, rows and reports": ["test_cli.py::test_images_and_store_may_both_lie_on_an_s3_that_fails_at_times"],
    "captions, to the endpoint": ["docs/test_captions.py::test_what_waiting_does_not_mend_is_told_at_once_and_without_the_key"],
    "the recipe and the files": ["commands/test_packing.py::test_what_is_named_goes_and_keeps_its_place"],
    "## Secrets": [
        "commands/test_secrets.py::test_no_command_lets_a_secret_out",
        "common/test_secrets.py::test_secrets_are_hidden_in_any_text_and_nothing_else_is",
        "common/test_access.py::test_keys_and_address_of_s3_go_along",
        "common/test_access.py::test_keys_of_the_node_come_first_and_are_not_those_of_its_machine",
        "commands/test_packing.py::test_what_could_not_run_there_is_refused_in_a_sentence",
    ],
    "The SHA-256 of all parameters": ["backbones/test_loading.py::test_fingerprint_follows_the_weights_and_nothing_else"],
    "Checkpoints are loaded": ["test_unpickled.py::test_nothing_is_unpickled_and_no_code_beside_a_file_is_run"],
    "The demo's downloads": ["demo/test_packages.py::test_wrong_checksum_is_refused_and_not_kept"],
    "Files of a store carry": [
        "store/test_hostile.py::test_a_bit_that_flips_is_named_or_without_effect",
        "store/test_hostile.py::test_images_and_tables_that_would_end_the_process_are_refused",
        "store/test_altered.py::test_rows_that_were_altered_are_named_and_never_shown",
        "store/test_altered.py::test_any_bit_that_flips_is_found",
        "store/test_lies.py::test_what_lies_is_found_named_and_taken_out",
    ],
    "Lower bounds exclude": ["docs/test_security.py::test_bounds_are_those_of_the_package"],
    "## Reporting": [],  # it asks, and promises nothing
}  # fmt: skip


def paragraphs() -> list[tuple[str, str]]:
    """Each paragraph and each entry of a list, with the heading above it."""
    found, heading = [], ""
    for block in re.split(r"\n\n|\n(?=- )", PAGE.partition("\n\n")[2]):
        heading = block if block.startswith("## ") else heading
        found.append((heading, block.strip().removeprefix("- ")))
    return found


def test_every_paragraph_has_its_tests() -> None:
    begun = [[key for key in SHOWN if text.startswith(key) or key == heading] for heading, text in paragraphs()]
    without = [text for keys, (heading, text) in zip(begun, paragraphs(), strict=True) if not keys and text != heading]
    assert without == []
    assert {key for keys in begun for key in keys} == set(SHOWN)


@pytest.mark.parametrize("name", sorted({name for names in SHOWN.values() for name in names}))
def test_the_test_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((REPOSITORY / "tests" / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_bounds_are_those_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = {*project["dependencies"], *(word for words in project["optional-dependencies"].values() for word in words)}
    bounds = dict(re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+).*", word).groups() for word in asked if ">=" in word)  # type: ignore[union-attr,misc]
    [said] = [" ".join(text.split()) for _, text in paragraphs() if text.startswith("Lower bounds")]
    named = {name.lower(): version for name, version in re.findall(r"(\w+) (\d[\d.]*\d)", said)}
    assert {name: bounds[name] for name in named} == named
    assert Path(REPOSITORY / "constraints.txt").is_file()

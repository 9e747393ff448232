"""README and reference: their studies are accepted, their calls and commands exist, their lists are complete."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from search_spaces.documents import from_yaml
from service.cli import app
from service.domain.parsing import parse_study
from service.domain.samplers import Pruner, Sampler
from service.domain.spec import NOT_SEARCHED
from service.settings import Settings
from service.store import open_store
from service.web.app import create_app
from trainer.tasks.image_classification.config import ImageClassificationHyperparameters

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
STUDY, SERVER = ((ROOT / "docs" / name).read_text() for name in ("study.md", "server.md"))
PAGES = "\n".join((README, STUDY, SERVER))


def code_block(page: str, language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return str(found)


@pytest.mark.parametrize(("page", "name"), [(README, "photos"), (STUDY, "sign-digits")])
def test_the_study_is_accepted(page: str, name: str) -> None:
    assert parse_study(from_yaml(code_block(page, "yaml"))).name == name


def test_the_study_reference_lists_all_samplers_and_pruners() -> None:
    def named(union: object) -> set[str]:
        members = union.__args__[0].__args__  # type: ignore[attr-defined]
        return {member.model_fields["name"].default for member in members}

    comments = dict(re.findall(r"^(sampler|pruner): .*# (.*)$", code_block(STUDY, "yaml"), re.MULTILINE))
    assert set(comments["sampler"].split()) == named(Sampler)
    assert set(comments["pruner"].split()) == named(Pruner)


def test_the_study_reference_names_every_hyperparameter() -> None:
    listed = re.search(r"Everything that can vary: `(.*?)`", STUDY, re.DOTALL)
    assert listed is not None
    assert set(listed.group(1).split()) == set(ImageClassificationHyperparameters.model_fields) - NOT_SEARCHED
    assert "`compile: true`" in STUDY


def test_the_five_calls_of_the_server_page_are_routes(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'x.db'}")
    paths = set(create_app(store, Settings(home=tmp_path)).openapi()["paths"])
    store.close()
    asked = re.findall(r"localhost:8000(/api/v1[^\s?']*)", code_block(SERVER, "sh"))
    assert len(asked) == 5
    assert {path.replace("/sign-digits", "/{study}") for path in asked} <= paths


@pytest.mark.parametrize("line", re.findall(r"(?:^| )thaw ([a-z][^#\n`]*)", "\n".join(re.findall(r"^    .*$", PAGES, re.MULTILINE))))
def test_the_commands_exist_with_their_options(line: str) -> None:
    words = line.split()
    here = get_command(app)
    while words and words[0] in getattr(here, "commands", {}):
        here = here.commands[words.pop(0)]  # type: ignore[attr-defined]
    known = {option for parameter in here.params for option in parameter.opts}
    assert here.name != "thaw"
    assert {word for word in words if word.startswith("-")} <= known


def test_the_picture_and_the_pages_it_links_to_are_there() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_in_it_is_made_by_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test"} <= set(re.findall(r"make ([a-z]+)", README)) <= targets


def test_the_changelog_names_the_newest_revision_of_the_database() -> None:
    [stated] = re.findall(r"^- Schema (\d+) of the database\.$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert int(stated) == max(int(file.name[1:5]) for file in (ROOT / "migrations" / "versions").glob("r[0-9]*.py"))

"""deploy.toml: what is accepted, and what is said about the rest."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.launch import description, platforms
from builder.launch.deployment import Deployment, Description
from builder.settings import ROOT
from entrypoint.common.errors import ConfigFailure

EXAMPLE = ROOT / "deploy.example.toml"


def load(folder: Path, text: str) -> Deployment:
    path = folder / "deploy.toml"
    path.write_text(text, encoding="utf-8")
    section = re.search(r"^\[(\w+)\]", text, flags=re.MULTILINE)
    return description.load(path, section[1] if section else "")


@pytest.mark.parametrize("target", ["swarm", "ecs", "dsw"])
def test_what_the_example_leaves_open_is_named(target: str) -> None:
    keys = {
        "swarm": {"registry"},
        "ecs": {"registry", "ecs.image_id", "ecs.vpc", "ecs.vswitch"},
        "dsw": {"registry", "dsw.workspace"},
    }
    described = description.load(EXAMPLE, target)
    assert set(description.stand_ins(described, target)) == keys[target]
    assert description.stand_ins(described, "compose") == []


def test_only_the_table_of_the_platform_is_looked_at(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace('# secret = ""\n# System', 'secret = "x"\n#')
    assert 'secret = "x"' in text
    path = tmp_path / "deploy.toml"
    path.write_text(text, encoding="utf-8")
    assert description.load(path, "compose").name == "llmdeploy"
    with pytest.raises(ConfigFailure, match=r"'ecs.ram_role' in deploy.toml cannot be") as caught:
        description.load(path, "ecs")
    assert "by its role" in caught.value.why


def test_the_example_is_valid() -> None:
    assert description.load(EXAMPLE).name == "llmdeploy"


def keys() -> Iterator[str]:
    yield from (field.name for field in dataclasses.fields(Description))
    for name in platforms.names():
        if table := dataclasses.fields(platforms.find(name).TABLE):
            yield from (name, *(field.name for field in table))


def test_the_example_explains_every_key_and_no_other(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    told = re.findall(r"^(?:# )?\[?([a-z_0-9]+)(?: = .*|\])$", text, flags=re.MULTILINE)
    assert set(told) == set(keys())
    everything = re.sub(r"^# (?=\[?[a-z_0-9]+(?: = .*|\])$)", "", text, flags=re.MULTILINE)
    load(tmp_path, everything)


def test_a_missing_description_names_the_example(tmp_path: Path) -> None:
    with pytest.raises(ConfigFailure, match=r"deploy\.toml does not exist") as caught:
        description.load(tmp_path / "deploy.toml")
    assert "deploy.example.toml" in caught.value.next


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "a1"\nreplica = 2', "Did you mean replicas?"),
        ('name = "a1"\n[compose]\nbnid = "::1"', "Did you mean bind?"),
        ("replicas = 2", "'name' is missing"),
        ('name = "a1"\ncompose = "yes"', "'compose' in deploy.toml must be a table"),
        ('name = "a1"\nmemory = "2g"', "'memory' in deploy.toml must be a whole number"),
        ('name = "Up"', "'name' in deploy.toml cannot be 'Up'"),
        (f'name = "{"a" * 28}"', "2 to 27 lower-case letters"),
        ('name = "a1"\nreplicas = 0', "'replicas' in deploy.toml cannot be 0"),
        ('name = "a1"\ncpus = 0', "'cpus' in deploy.toml cannot be 0"),
        ('name = "a1"\nmemory = -1', "'memory' in deploy.toml cannot be -1"),
        ('name = "a1"\nport = 65536', "'port' in deploy.toml cannot be 65536"),
        ('name = "a1"\nparallel = 0', "'parallel' in deploy.toml cannot be 0"),
        ('name = "a1"\nalias = ["a b"]', "'alias' in deploy.toml cannot be ('a b',)"),
        ('name = "a1"\norigin = ["chat.example"]', "An origin is http:// or https://"),
        ('name = "a1"\norigin = ["https://chat.example/"]', "without a path"),
        ('name = "a1"\nsystem = "a$(b)"', "'system' in deploy.toml cannot be 'a$(b)'"),
        ('name = "a1"\nsystem = "a\\nb"', "Platforms read line breaks"),
        ('name = "a1"\n[k8s]\nservice = "LB"', "'k8s.service' in deploy.toml cannot be 'LB'"),
        ('name = "a1"\n[k8s]\nallow = ["10.1/8"]', "'k8s.allow' in deploy.toml cannot be"),
        ('name = "a1"\n[k8s]\ncpu_percent = 0', "'k8s.cpu_percent' in deploy.toml cannot be 0"),
        *(
            (f'name = "a1"\n[eas]\nendpoint = "{bad}"', "'eas.endpoint' in deploy.toml cannot be")
            for bad in ("http://[::1", "ho st", "l" * 70, "file:///tmp", "http://")
        ),
        ('name = "a1"\npatience = 0', "'patience' in deploy.toml cannot be 0"),
    ],
)
def test_a_mistake_is_told_in_words(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigFailure) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)


def test_keys_lie_beside_the_description(tmp_path: Path) -> None:
    assert load(tmp_path, 'name = "a1"\nkeys = "k"').keys == str(tmp_path / "k")

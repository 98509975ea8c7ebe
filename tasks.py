"""The whole build side on one screen: every task is settings in, one call out.

`invoke --list` shows them; ./llmdeploy runs the same tasks and prepares .venv first.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from invoke import Context

from builder import settings, variants
from builder.launch import platforms
from builder.stage.edge import at_most_one, one_of, stage
from entrypoint.common.language import _

ENGINE = _("inference engine: llamacpp (default), ik, itrex or openvino")


MODEL = _("a name in models/models.toml, an address on a hub, or a file")
NAME = _("name for a model of your own")
TEMPLATE = _("chat template, if the file has none: Jinja, or chatml")


@stage(
    positional=("model",),
    help={
        "model": MODEL,
        "name": NAME,
        "chat-template": TEMPLATE,
        "engine": ENGINE,
        "no-mirrors": _("ask none of the mirrors in llmdeploy.toml: make everything here"),
    },
)
def up(
    _: Context,
    model: str = "",
    name: str = "",
    chat_template: str = "",
    engine: str = "",
    no_mirrors: bool = False,
) -> None:
    """From nothing to a chat: container engine, environment, model, image."""
    from builder import up as flow
    from builder.models import addresses

    if model or name or chat_template:
        model = addresses.resolve(model, name=name, chat_template=chat_template).name
    chosen = settings.load(engine)
    flow.up(replace(chosen, mirrors=()) if no_mirrors else chosen, model)


@stage()
def doctor(_: Context) -> None:
    """Show what this machine has, what each model takes, how fast it is, and which fit."""
    from builder import doctor as stage_

    stage_.examine(settings.load())


@stage(
    positional=("name",),
    iterable=("url",),
    help={
        "name": _("name of the environment: runtime (default), ik, itrex or openvino"),
        "source": _("lock, debian, tarball, or auto (default): lock if reachable, else debian"),
        "url": _("address of a packed environment; repeat it for mirrors"),
        "file": _("a packed environment on this disk"),
        "sha256": _("SHA-256 of the packed environment, required with --url"),
    },
)
def build_env(
    _: Context,
    name: str = "",
    source: str = "auto",
    url: list[str] | None = None,
    file: str = "",
    sha256: str = "",
) -> None:
    """Build a conda environment and pack it into dist/env/NAME.tar.zst."""
    engine = variants.of_environment(name).engine if name else ""
    one_of("--source", source, ("auto", "lock", "debian", "tarball"))
    if source == "tarball":
        from builder.environment import tarball

        tarball.restore(
            settings.load(engine),
            urls=url or [],
            file=Path(file) if file else None,
            sha256=sha256 or None,
        )
    else:
        from builder.environment import condaenv

        condaenv.build(settings.load(engine), source)  # type: ignore[arg-type]  # one_of looked


@stage(
    positional=("file", "dest"),
    help={
        "file": _("the packed environment, .tar.gz or .tar.zst (default: the tutorial's)"),
        "dest": _("folder to restore it to"),
        "sha256": _("SHA-256 of the packed environment"),
        "trust-on-first-use": _("accept the tutorial's environment and record its hash"),
    },
)
def unpack_env(
    _: Context,
    file: str = "",
    dest: str = "/opt/conda/envs/itrex",
    sha256: str = "",
    trust_on_first_use: bool = False,
) -> None:
    """Restore a packed environment anywhere; without a file, fetch the tutorial's."""
    from builder.environment import tarball

    if file:
        tarball.unpack(Path(file), Path(dest), sha256=sha256 or None)
    else:
        tarball.unpack_prebuilt(
            settings.load(),
            Path(dest),
            sha256=sha256 or None,
            trust_on_first_use=trust_on_first_use,
        )


@stage(
    positional=("env",),
    help={
        "env": _("folder of the environment"),
        "name": _("name of the kernel in Jupyter"),
        "user": _("install for this user only"),
        "prefix": _("install below this folder"),
    },
)
def kernel(
    _: Context,
    env: str = "/opt/conda/envs/itrex",
    name: str = "itrex",
    user: bool = False,
    prefix: str = "",
) -> None:
    """Register an environment as a Jupyter kernel."""
    from builder.environment import jupyter as kernels

    kernels.register(Path(env), name, user=user, prefix=Path(prefix) if prefix else None)


@stage(
    positional=("model",),
    help={
        "model": MODEL,
        "source": _("use only this kind of source: modelscope, huggingface, wheel, url or dir"),
        "trust-on-first-use": _("accept a model that is not locked and record its hashes"),
    },
)
def fetch(_: Context, model: str = "", source: str = "", trust_on_first_use: bool = False) -> None:
    """Fetch a model of models.toml and check every file against models.lock."""
    from builder.models import addresses
    from builder.models import fetch as stage_

    stage_.fetch(
        settings.load(),
        [addresses.resolve(model).name] if model else None,
        source=source or None,
        trust_on_first_use=trust_on_first_use,
    )


@stage(
    positional=("model",),
    help={
        "model": MODEL,
        "type": _("weight type by its llama.cpp name, for example Q8_0"),
        "engine": ENGINE,
    },
)
def quantize(_: Context, model: str = "", type: str = "", engine: str = "") -> None:
    """Quantize a fetched model to INT4 (Q4_0, or --type) and write catalog.json."""
    from builder.quantizers import quantize as stage_

    stage_.quantize(settings.load(engine), [model] if model else None, type=type or None)


@stage(
    positional=("model",),
    iterable=("model",),
    help={
        "model": _("only this model, as quantize names it; repeat it for several"),
        "name": NAME,
        "chat-template": TEMPLATE,
        "engine": ENGINE,
        "no-deps": _("do not run the earlier stages that are missing"),
    },
)
def build_image(
    _: Context,
    model: list[str] | None = None,
    name: str = "",
    chat_template: str = "",
    engine: str = "",
    no_deps: bool = False,
) -> None:
    """Build the image llmdeploy:latest from environment, models and program."""
    from builder import image
    from builder import up as flow
    from builder.models import addresses

    chosen = settings.load(engine)
    names = [
        addresses.resolve(each, name=name, chat_template=chat_template).name for each in model or ()
    ]
    if names and not no_deps:
        flow.prepare(chosen, names)
    image.build(chosen, names or None)


@stage(help={"engine": ENGINE})
def image_size(_: Context, engine: str = "") -> None:
    """Print the image's size by layer, unpacked and compressed."""
    from builder.image import sizes

    sizes.show(settings.load(engine))


@stage(
    help={
        "check": _("only report drift and what Debian has replaced, write nothing"),
        "renew": _("take the newest versions that fit the intents"),
        "models": _("record the hashes of this model from its hub instead"),
        "engine": _("compile this engine and record the hash of its wheel instead"),
        "built": _("record the hashes of what has been built here instead, for mirrors"),
        "explicit": _("print the locked conda packages for micromamba, pixi or conda instead"),
    }
)
def lock(
    _: Context,
    *,
    check: bool = False,
    renew: bool = False,
    models: str = "",
    engine: str = "",
    built: bool = False,
    explicit: bool = False,
) -> None:
    """Regenerate the locks from their intent files; --check only reports drift."""
    from builder import delivery
    from builder.environment import condaenv
    from builder.environment import engine as engines
    from builder.environment import explicit as packages
    from builder.environment import lock as locks
    from builder.models import fetch as stage_

    at_most_one(
        {
            "--check": check,
            "--renew": renew,
            "--models": models,
            "--engine": engine,
            "--built": built,
            "--explicit": explicit,
        }
    )
    if explicit:
        print(packages.explicit(condaenv.LOCK, settings.load().channel), end="")
    elif built:
        delivery.record(settings.load())
    elif models:
        stage_.lock(models)
    elif engine:
        engines.record(settings.load(), engine)
    elif check:
        locks.check(settings.load())
        locks.tell_replaced()
    else:
        locks.write(settings.load(), renew=renew)


@stage(
    help={
        "fast": _("only the linters and tests/unit"),
        "slow": _("only the tests that take minutes each, which are skipped otherwise"),
        "no-docker": _("leave out tests/image"),
    },
)
def test(_: Context, fast: bool = False, slow: bool = False, no_docker: bool = False) -> None:
    """Run every check and test; --fast only the quick ones, --no-docker without containers."""
    from builder import checks

    at_most_one({"--fast": fast, "--slow": slow})
    if slow:
        checks.run_slow(settings.load(), docker=not no_docker)
    else:
        checks.run_all(settings.load(), fast=fast, docker=not no_docker)


@stage(
    help={
        "serve": _("measure the server instead, beside llama.cpp's own (15 minutes)"),
        "itrex": _("measure the tutorial's stack instead, beside llama.cpp (6 minutes)"),
        "fresh": _("measure from nothing to the first answer instead, with and without a mirror"),
    }
)
def bench(_: Context, serve: bool = False, itrex: bool = False, fresh: bool = False) -> None:
    """Measure speed, memory and quality beside other engines and print the tables."""
    from builder.bench import engines
    from builder.bench import fresh as start
    from builder.bench import itrex as stack
    from builder.bench import serve as service

    at_most_one({"--serve": serve, "--itrex": itrex, "--fresh": fresh})
    chosen = service if serve else stack if itrex else start if fresh else engines
    chosen.run_all(settings.load())


@stage(
    positional=("model",),
    help={
        "model": _(
            "a fetched model (default: the catalogue's); of 0.5B about 30 minutes on 2 cores"
        )
    },
)
def quality(_: Context, model: str = "") -> None:
    """Measure what each type of weights gives for its size: perplexity and speed."""
    from builder.bench import quality as stage_

    stage_.run_all(settings.load(), model)


@stage(
    positional=("model",),
    help={
        "model": _("the model that answers (default: the catalogue's)"),
        "record": _("keep the results for docs/clients.md"),
    },
)
def clients(_: Context, model: str = "", record: bool = False) -> None:
    """Let real clients of OpenAI's API ask a real server, and print what works."""
    from builder import clients as stage_

    stage_.run_all(settings.load(), model, record=record)


DESCRIPTION = _("file that describes the deployment (default: deploy.toml)")
KEY = _("private key to sign with: ECDSA on P-256, as PEM")
PLATFORM = _("platform: {names}").format(names=", ".join(platforms.names()))


@stage(
    positional=("target",),
    help={
        "target": PLATFORM,
        "dry-run": _("print what the platform would get (the default)"),
        "output": _("write that into this folder"),
        "apply": _("launch it, and wait until the service is ready"),
        "file": DESCRIPTION,
    },
)
def launch(
    _: Context,
    target: str,
    dry_run: bool = False,
    output: str = "",
    apply: bool = False,
    file: str = "",
) -> None:
    """Launch the deployment of deploy.toml on a platform; without --apply only show it."""
    from builder.launch import description, targets

    at_most_one({"--dry-run": dry_run, "--output": output, "--apply": apply})
    described = description.load(Path(file or description.FILE), target)
    chosen = settings.load(described.engine)
    if apply:
        targets.apply(chosen, described, target)
    elif output:
        targets.write(chosen, described, target, Path(output))
    else:
        targets.show(chosen, described, target)


@stage(positional=("target",), help={"target": PLATFORM, "file": DESCRIPTION})
def status(_: Context, target: str, file: str = "") -> None:
    """Show the state of the deployment on a platform."""
    from builder.launch import description

    described = description.load(Path(file or description.FILE), target)
    platforms.find(target).status(settings.load(described.engine), described)


@stage(positional=("target",), help={"target": PLATFORM, "file": DESCRIPTION})
def teardown(_: Context, target: str, file: str = "") -> None:
    """Remove what launch --apply created on a platform."""
    from builder.launch import description

    described = description.load(Path(file or description.FILE), target)
    platforms.find(target).teardown(settings.load(described.engine), described)


@stage(
    positional=("database",),
    help={
        "database": _("vulnerabilities in OSV format: all.zip of an ecosystem, or JSON"),
        "engine": ENGINE,
    },
)
def audit(_: Context, database: str = "", engine: str = "") -> None:
    """Look up the image's parts in a database of vulnerabilities that you name."""
    from builder.image import audit as stage_

    stage_.audit(settings.load(engine), Path(database) if database else None)


@stage(
    help={
        "output": _("folder to write, which does not exist yet"),
        "since": _("earlier export that the other machine has loaded: only what is new is written"),
        "sign": KEY,
        "mirror": _("add what another machine needs to build the image itself"),
        "file": DESCRIPTION,
    },
)
def export(
    _: Context,
    output: str,
    since: str = "",
    sign: str = "",
    mirror: bool = False,
    file: str = "",
) -> None:
    """Write image and service into a folder for a machine that has Docker and no network."""
    from builder.launch import description
    from builder.launch import export as stage_

    described = description.load(Path(file)) if file else description.own()
    chosen = settings.load(described.engine)
    earlier, key = (Path(each) if each else None for each in (since, sign))
    stage_.export(chosen, described, Path(output), since=earlier, key=key, mirror=mirror)


@stage(
    help={
        "sign": KEY,
        "file": DESCRIPTION,
    }
)
def push(_: Context, sign: str = "", file: str = "") -> None:
    """Push the image to the registry of deploy.toml and print its reference by digest."""
    from builder.launch import description
    from builder.launch import push as stage_

    described = description.load(Path(file or description.FILE))
    stage_.push(settings.load(described.engine), described, Path(sign) if sign else None)


@stage(
    positional=("reference",),
    help={
        "reference": _("image in a registry, as push prints it"),
        "key": _("public key of whoever signed it, as PEM"),
        "engine": ENGINE,
    },
)
def verify(_: Context, reference: str, key: str, engine: str = "") -> None:
    """Check that an image in a registry is signed, and is what this recipe gives."""
    from builder.launch import verify as stage_

    stage_.verify(settings.load(engine), reference, Path(key))

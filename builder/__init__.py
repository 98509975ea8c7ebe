"""The build side: environment, models and image from locked recipes."""

from pathlib import Path

from entrypoint.common import language

language.CATALOGUES.append(Path(__file__).with_name("zh.toml"))

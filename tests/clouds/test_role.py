"""What a machine asks for in the name of its RAM role, run as the machine runs it."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from builder.launch.alibaba.userdata import FILES
from tests.clouds.loopback import Actions, Cloud, Parameters

ROLE, REGION = "puller", "cn-shanghai"


def secret(_cloud: Cloud, parameters: Parameters) -> Parameters:
    assert parameters["SecretName"] == "chat keys/1"
    return {"SecretData": "key-1\nkey-2"}


def login(_cloud: Cloud, parameters: Parameters) -> Parameters:
    assert parameters["InstanceId"] == "cri-1"
    return {"TempUsername": "cr_temp_user", "AuthorizationToken": "password"}


@pytest.fixture
def cloud(serve: Callable[[Actions], Cloud]) -> Cloud:
    return serve(
        {
            ("2016-01-20", "GetSecretValue"): secret,
            ("2018-12-01", "GetAuthorizationToken"): login,
        }
    )


def run(cloud: Cloud, what: str, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", FILES / "role.py", what, ROLE, REGION, name],
        capture_output=True,
        text=True,
        check=False,
        env={"METADATA": cloud.url, "ENDPOINT": cloud.url},
    )


@pytest.mark.parametrize(
    ("what", "name", "printed"),
    [
        ("secret", "chat keys/1", "key-1\nkey-2\n"),
        ("user", "cri-1", "cr_temp_user\n"),
        ("registry", "cri-1", "password\n"),
    ],
)
def test_what_the_role_may_read_is_printed(
    cloud: Cloud, what: str, name: str, printed: str
) -> None:
    done = run(cloud, what, name)
    assert done.stdout == printed, done.stderr


def test_a_refusal_fails_so_that_the_service_is_tried_again(cloud: Cloud) -> None:
    cloud.faults = {"GetSecretValue": ["Forbidden.KeyNotFound"]}
    done = run(cloud, "secret", "chat keys/1")
    assert done.returncode != 0
    assert done.stdout == ""

"""What this machine may ask Alibaba Cloud for in the name of its RAM role, and prints.

Usage: role.py secret ROLE REGION NAME       the text of a secret of KMS
       role.py user ROLE REGION INSTANCE     a user of a registry, for an hour
       role.py registry ROLE REGION INSTANCE  and that user's password

It runs on an ECS instance with the system's own Python, so it has nothing but that. Requests are
signed as Alibaba Cloud's documentation of "V3 request structure and signature" says.
"""

import hashlib
import hmac
import json
import os
import sys
import time
import urllib.parse
import urllib.request
import uuid

METADATA = os.environ.get("METADATA", "http://100.100.100.200")
ALGORITHM = "ACS3-HMAC-SHA256"
ENDPOINT = os.environ.get("ENDPOINT", "https://{product}-vpc.{region}.aliyuncs.com")


def ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    """Return what a server answers, as text."""
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.read().decode())


def credentials(role: str) -> dict[str, str]:
    """Return the role's keys of this hour; the metadata service wants a token of its own."""
    life = {"X-aliyun-ecs-metadata-token-ttl-seconds": "300"}
    token = ask(f"{METADATA}/latest/api/token", life, "PUT")
    place = f"{METADATA}/latest/meta-data/ram/security-credentials/{role}"
    found: dict[str, str] = json.loads(ask(place, {"X-aliyun-ecs-metadata-token": token}))
    return found


def call(
    product: str, region: str, action: tuple[str, str], parameters: dict[str, str], role: str
) -> dict[str, str]:
    """Return what an action, by version and name, answers to the role."""
    keys = credentials(role)
    endpoint = ENDPOINT.format(product=product, region=region)
    query = "&".join(
        f"{urllib.parse.quote(name, safe='')}={urllib.parse.quote(value, safe='')}"
        for name, value in sorted(parameters.items())
    )
    nothing = hashlib.sha256(b"").hexdigest()
    headers = {
        "host": urllib.parse.urlsplit(endpoint).netloc,
        "x-acs-action": action[1],
        "x-acs-content-sha256": nothing,
        "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "x-acs-security-token": keys["SecurityToken"],
        "x-acs-signature-nonce": uuid.uuid4().hex,
        "x-acs-version": action[0],
    }
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"POST\n/\n{query}\n{lines}\n{names}\n{nothing}"
    text = f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = keys["AccessKeySecret"].encode()
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = (
        f"{ALGORITHM} Credential={keys['AccessKeyId']},SignedHeaders={names},Signature={signature}"
    )
    answer: dict[str, str] = json.loads(ask(f"{endpoint}/?{query}", headers, "POST"))
    return answer


def main(what: str, role: str, region: str, name: str) -> None:
    """Print what was asked for."""
    if what == "secret":
        action = ("2016-01-20", "GetSecretValue")
        print(call("kms", region, action, {"SecretName": name}, role)["SecretData"])
    else:
        action = ("2018-12-01", "GetAuthorizationToken")
        answer = call("cr", region, action, {"InstanceId": name}, role)
        print(answer["TempUsername" if what == "user" else "AuthorizationToken"])


if __name__ == "__main__":
    main(*sys.argv[1:])
